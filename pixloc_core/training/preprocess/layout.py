"""Where the parts of a data set lie: one folder per scene, and places in it as templates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pixloc_core.errors import MapError


@dataclass(frozen=True)
class Layout:
    """Places of a data set.

    Attributes:
        root: Folder with one folder per scene.
        sfm: Templates of the COLMAP model of a scene, relative to the root, `{}` standing for its
            name; the first that exists is taken.
        images: Template of the image folder of a scene, likewise; "" where it is not asked for.
    """

    root: Path
    sfm: tuple[str, ...]
    images: str = ""

    def scenes(self, only: Sequence[str] = ()) -> tuple[str, ...]:
        """Names of the scenes: those asked for, or all folders that have a model.

        Raises:
            MapError: If the folder or one that is asked for is missing, or there is none.
        """
        if not self.root.is_dir():
            raise MapError(f"{self.root}: no such folder, expected a data set")
        for scene in only:
            if not (self.root / scene).is_dir():
                raise MapError(f"{self.root / scene}: no such folder, expected a scene")
        if only:
            return tuple(only)
        folders = sorted(path.name for path in self.root.iterdir() if path.is_dir())
        found = tuple(scene for scene in folders if self._models(scene))
        if not found:
            raise MapError(
                f"{self.root}: no folder with a COLMAP model, looked for {' or '.join(self.sfm)}"
            )
        return found

    def model_of(self, scene: str) -> Path:
        """Folder of the COLMAP model of a scene.

        Raises:
            MapError: If there is none.
        """
        models = self._models(scene)
        if not models:
            tried = ", ".join(fill(template, scene) for template in self.sfm)
            raise MapError(f"{self.root / scene}: no COLMAP model, looked for {tried}")
        return models[0]

    def _models(self, scene: str) -> list[Path]:
        places = [self.root / fill(template, scene) for template in self.sfm]
        return [place for place in places if any(place.glob("cameras.*"))]


def fill(template: str, scene: str) -> str:
    """A template with the name of a scene put in."""
    return template.replace("{}", scene)
