"""The file of results: each benchmark keeps a section of its own in it."""

from pathlib import Path

_TITLE = "# Results of the benchmarks\n\nEach section is written by the command it names.\n"


def write_section(path: Path, name: str, text: str) -> None:
    """Replace the section of one benchmark; the others stay as they are.

    Args:
        path: A Markdown file, made if it is not there.
        name: Name of the benchmark, in the comments around its section.
        text: The section.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    content = path.read_text() if path.exists() else _TITLE
    section = f"{begin}\n{text.strip()}\n{end}"
    if begin in content:
        before, _, rest = content.partition(begin)
        _, _, after = rest.partition(end)
        content = f"{before}{section}{after}"
    else:
        content = f"{content.rstrip()}\n\n{section}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
