"""Parameters of the retrieval node.

`python -m pixloc_ros.retrieval_config` prints the defaults as a parameter file
(config/retrieval.yaml).
"""

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import Field, dataclass
from typing import Any

import yaml

from pixloc_core.config import check, section, setting, walk
from pixloc_core.retrieval.descriptor import DescriptorConfig
from pixloc_core.retrieval.index import SearchConfig
from pixloc_ros.parameters import default_of, describe


@dataclass(frozen=True, kw_only=True)
class RetrievalNodeConfig:
    """Which map, where its index is, and how it is searched."""

    map: str = setting("", doc="Feature map file, made by `pixloc map build`.")
    index: str = setting(
        "", doc="Index file of its images; empty: beside the map (map.h5: map.retrieval.h5)."
    )
    images: str = setting(
        "",
        doc="Folder of its images: the index is made and written where there is none that fits. "
        "Empty: it is made by `pixloc map retrieval`. Another map, of the service load_map, has "
        "its index, or its images, beside it (map.images).",
    )
    num_threads: int = setting(
        1, doc="Threads of the computation on the CPU. 0: one for each core.", ge=0, le=1024
    )
    search: SearchConfig = section(  # noqa: RUF009 (a field)
        SearchConfig, doc="Which candidates are given."
    )
    descriptor: DescriptorConfig = section(  # noqa: RUF009 (a field)
        DescriptorConfig,
        doc="What an index is made with; of one that is there already, `device` alone counts.",
    )

    def __post_init__(self) -> None:
        check(self)


def to_yaml() -> str:
    """The parameter file of all defaults, each with its description."""
    head = (
        "# Parameters of retrieval_node: all of them, at their defaults. They are read at the\n"
        "# start; those of `descriptor`, besides its device, count when an index is made.\n"
        "# Written by `python -m pixloc_ros.retrieval_config`; a test holds the two equal.\n"
        "/**:\n  ros__parameters:\n"
    )
    lines = (line for name, field in walk(RetrievalNodeConfig) for line in _entry(name, field))
    return head + "".join(f"    {line}\n" for line in lines)


def _entry(name: str, field: "Field[Any]") -> Iterator[str]:
    yield from (f"# {line}" for line in textwrap.wrap(describe(field), 90))
    value = yaml.safe_dump(default_of(field), default_flow_style=True).removesuffix("...\n")
    yield f"{name}: {value.strip()}"


if __name__ == "__main__":
    sys.stdout.write(to_yaml())
