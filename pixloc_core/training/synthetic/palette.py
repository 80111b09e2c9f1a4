"""Materials by what they are for, drawn at random."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pixloc_core.training.synthetic.patches import Material

# Overlays of a surface: mostly stains, some marks; clouds do as soft light patches.
_NEAR_GREY = 0.06


class Palette:
    """Draws materials from the layers of an atlas.

    Args:
        layers: Numbers of the layers by kind: those of `procedural_textures`, and `photo`.
        rng: Random numbers.
        photo_share: How often a photo stands for a surface.
    """

    def __init__(
        self, layers: Mapping[str, Sequence[int]], rng: np.random.Generator, photo_share: float
    ) -> None:
        self._layers = layers
        self._rng = rng
        self._photo_share = photo_share if layers["photo"] else 0.0

    def ground(self, scale: float = 1.0) -> Material:
        """Streets, lawns, flat roofs, open land; the scale fits the distance of the camera.

        A second texture shines through, so that the repetition of the first is hidden.
        """
        kind = self._kind("ground", "ground", "masonry", "foliage", factor=0.6)
        under = ("stains", (8.0, 25.0), 0.8)
        if self._rng.random() < 0.7:
            under = (
                self._kind("ground"),
                (7.0 * scale, 20.0 * scale),
                self._rng.uniform(0.25, 0.6),
            )
        return self._make(kind, (2.0 * scale, 5.0 * scale), turn=True, over=under)

    def floor(self) -> Material:
        """Floors of rooms."""
        kind = self._kind("stripes", "masonry", "ground", "stripes")
        return self._make(kind, (1.2, 4.0), over=("stains", (2, 6), 0.4))

    def wall(self) -> Material:
        """Walls without windows."""
        kind = self._kind("masonry", "ground", "stripes")
        return self._make(kind, (2.0, 6.0), over=self._some_overlay((3, 8)))

    def room_wall(self) -> Material:
        """Walls of rooms: light paint, paper or wood, with pictures on them."""
        kind = self._kind("ground", "stripes", "masonry")
        tint = self._tint(0.9, 1.6)
        return self._make(kind, (2.0, 6.0), over=self._some_overlay((1.5, 4)), tint=tint)

    def facade(self) -> Material:
        """Walls with windows."""
        kind = self._kind("masonry", "ground", "stripes")
        lit = float(self._rng.random() < 0.7)
        if kind == "photo" and self._rng.random() < 0.35:
            return self._make(kind, (6.0, 16.0), over=("stains", (5, 15), 0.6))
        return self._make(kind, (2.5, 7.0), over=("windows", (8, 14), 1.0), emission=lit)

    def roof(self) -> Material:
        """Tiles and sheets."""
        kind = self._kind("masonry", "stripes", factor=0.5)
        return self._make(kind, (1.5, 5.0), over=("stains", (5, 12), 0.8))

    def thing(self) -> Material:
        """Boxes, furniture, goods."""
        kind = self._kind("ground", "stripes", "masonry", "ground")
        over = self._some_overlay((0.3, 1.2))
        return self._make(kind, (0.4, 2.0), turn=self._rng.random() < 0.3, over=over,
                          tint=self._tint(0.4, 1.5, 0.2))  # fmt: skip

    def paint(self) -> Material:
        """Painted metal."""
        return self._make("ground", (8.0, 20.0), over=("marks", (1.5, 4), 0.6),
                          tint=self._tint(0.3, 2.0, 0.25))  # fmt: skip

    def glass(self) -> Material:
        """Dark panes."""
        return self._make("ground", (6.0, 12.0), over=("clouds", (1, 4), 0.3),
                          tint=self._tint(0.1, 0.35))  # fmt: skip

    def plain(self, *, dark: bool = False) -> Material:
        """Poles, frames, tyres."""
        tint = self._tint(0.1, 0.3) if dark else self._tint(0.3, 1.6)
        return self._make("ground", (0.5, 2.0), over=("stains", (0.5, 2), 0.5), tint=tint)

    def bark(self) -> Material:
        """Trunks."""
        return self._make("ground", (0.5, 1.5), over=("stains", (0.5, 2), 0.6),
                          tint=(0.6, 0.48, 0.36))  # fmt: skip

    def leaves(self) -> Material:
        """Crowns, bushes, grass."""
        return self._make("foliage", (0.6, 2.5), turn=True, over=("stains", (1, 3), 0.4),
                          tint=self._tint(0.6, 1.6, 0.1))  # fmt: skip

    def picture(self) -> Material:
        """Posters, paintings, screens, signs."""
        kind = "photo" if self._layers["photo"] else "marks"
        return self._make(kind, (0.6, 2.5), over=("marks", (0.5, 1.5), 0.5))

    def _kind(self, *kinds: str, factor: float = 1.0) -> str:
        if self._rng.random() < self._photo_share * factor:
            return "photo"
        return str(self._rng.choice(np.array(kinds)))

    def _some_overlay(self, extent: tuple[float, float]) -> tuple[str, tuple[float, float], float]:
        kind = "marks" if self._rng.random() < 0.4 else "stains"
        return kind, extent, float(self._rng.choice([0.0, 0.5, 0.9]))

    def _tint(
        self, low: float, high: float, colour: float = _NEAR_GREY
    ) -> tuple[float, float, float]:
        level = math.exp(self._rng.uniform(math.log(low), math.log(high)))
        r, g, b = (level * np.exp(self._rng.normal(0, colour, 3))).tolist()
        return r, g, b

    def _make(
        self,
        kind: str,
        extent: tuple[float, float],
        *,
        over: tuple[str, tuple[float, float], float],
        turn: bool = False,
        tint: tuple[float, float, float] | None = None,
        emission: float = 0.0,
    ) -> Material:
        rng = self._rng
        overlay, overlay_extent, strength = over
        return Material(
            base=int(rng.choice(self._layers[kind])),
            base_extent=rng.uniform(*extent),
            turn=rng.uniform(0, 6.28) if turn else 0.0,
            tint=self._tint(0.6, 1.5) if tint is None else tint,
            overlay=int(rng.choice(self._layers[overlay])),
            overlay_extent=rng.uniform(*overlay_extent),
            overlay_tint=self._tint(0.6, 1.4) if overlay != "windows" else (1.0, 1.0, 1.0),
            overlay_strength=strength,
            emission=emission,
        )
