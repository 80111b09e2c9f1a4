"""The trained weights that come with the package, by name."""

from collections.abc import Mapping
from pathlib import Path

_FOLDER = Path(__file__).with_name("shipped")

# Name -> file. A map remembers the name: it holds on every machine, a path does not.
SHIPPED: Mapping[str, Path] = {"light": _FOLDER / "light.safetensors"}
DEFAULT = "light"


def find_weights(name: str | Path) -> Path:
    """The file that a name of shipped weights, or a path, stands for.

    Args:
        name: One of `SHIPPED`, empty for the default, or the path of a file. A file that has the
            name of shipped weights is meant with its folder, as in `./light`.
    """
    return SHIPPED.get(str(name) or DEFAULT, Path(name))


def what_ships() -> str:
    """The names, for messages."""
    names = [f"{name} (default)" if name == DEFAULT else name for name in SHIPPED]
    return f"weights that ship with the package: {', '.join(names)}"
