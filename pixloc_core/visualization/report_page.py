"""One self-contained HTML page with what a run of the localizer showed."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em;
       color: #1d2733; background: #fff; }
h1 { font-size: 1.6em; margin-bottom: 0; } h2 { font-size: 1.15em; margin: 1.8em 0 .4em; }
p.verdict { font-weight: 600; padding: .5em .8em; border-radius: 6px; background: #eef2f6; }
p.verdict.pass { background: #e0f3e8; } p.verdict.fail { background: #fbe3e3; }
table { border-collapse: collapse; } td { padding: .25em 1.2em .25em 0; }
tr + tr td { border-top: 1px solid #e3e8ee; } td:last-child { font-variant-numeric: tabular-nums; }
figure { margin: 0 0 1em; } img { max-width: 100%; border: 1px solid #e3e8ee; border-radius: 4px; }
figcaption { color: #5a6775; font-size: .92em; }
"""


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Attributes:
        content: Bytes of a PNG or JPEG file.
        caption: What it shows.
    """

    content: bytes
    caption: str

    @property
    def source(self) -> str:
        """The picture as a `data:` address."""
        kind = "png" if self.content.startswith(b"\x89PNG") else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Section:
    """A heading with pictures below."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Verdict:
    """How the run ended: one line, and whether it passed (None: it was not judged)."""

    text: str
    passed: bool | None = None


def render_page(
    title: str,
    verdict: Verdict,
    rows: Sequence[tuple[str, str]],
    sections: Sequence[Section],
) -> str:
    """The page as HTML; every text is escaped.

    Args:
        title: Heading.
        verdict: Line below it.
        rows: Name and value of the numbers.
        sections: Pictures.
    """
    kind = {True: " pass", False: " fail", None: ""}[verdict.passed]
    numbers = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>\n"
        for name, value in rows
    )
    body = "".join(_render_section(section) for section in sections if section.pictures)
    heading = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{heading}</title>\n'
        f"<style>{_STYLE}</style></head><body>\n<h1>{heading}</h1>\n"
        f'<p class="verdict{kind}">{html.escape(verdict.text)}</p>\n'
        f"<table>{numbers}</table>\n{body}</body></html>\n"
    )


def _render_section(section: Section) -> str:
    figures = "".join(
        f'<figure><img src="{picture.source}" alt="{html.escape(picture.caption)}">'
        f"<figcaption>{html.escape(picture.caption)}</figcaption></figure>\n"
        for picture in section.pictures
    )
    return f"<h2>{html.escape(section.title)}</h2>\n{figures}"
