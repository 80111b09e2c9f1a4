"""The light of a view: sun, sky, haze, lamps."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from pixloc_core.shapes import Tensor
from pixloc_core.training.synthetic.patches import Array

NUM_LAMPS = 4
# Neutral light of day, in which `light = 0` shows all views.
_FLAT = 0.8


@dataclass(frozen=True)
class Light:
    """Light of views `v`, in linear colours.

    Attributes:
        sun: Direction towards the sun, its colour: `(v, 2, 3)`.
        ambient: Light from above and from below, `(v, 2, 3)`.
        sky: Colours of zenith, horizon and clouds, `(v, 3, 3)`.
        haze: Colour of the haze, and its density per metre in the first entry, `(v, 2, 3)`.
        lamps: Positions and colours, `(v, k, 2, 3)`.
        glow: How bright lit windows are, and the brightness that exposure aims at, `(v, 2)`.
    """

    sun: Tensor
    ambient: Tensor
    sky: Tensor
    haze: Tensor
    lamps: Tensor
    glow: Tensor

    def to(self, device: torch.device | str) -> "Light":
        """The same on another device."""
        return Light(*(getattr(self, field.name).to(device) for field in fields(self)))


def stack_lights(lights: Sequence[Light]) -> Light:
    """Lights of single views as one batch."""
    names = (field.name for field in fields(Light))
    return Light(*(torch.stack([getattr(light, name) for light in lights]) for name in names))


class LightDrawer:
    """Draws the light of views of one place.

    Args:
        rng: Random numbers.
        is_indoors: Whether lamps take the place of the sky.
        lamps: Where lamps may be (k, 3).
        extent: Size of what is in sight, metres.
        amount: 0: flat light, the same for all; 1: any light.
    """

    def __init__(
        self, rng: np.random.Generator, *, is_indoors: bool, lamps: Array, extent: float,
        amount: float,
    ) -> None:  # fmt: skip
        self._rng = rng
        self._is_indoors = is_indoors
        self._lamps = lamps
        self._extent = extent
        self._amount = amount

    def draw(self, night: float) -> Light:
        """The light of one view; a share of them by night."""
        if self._amount == 0:
            return self._flat()
        if self._is_indoors:
            return self._indoors(is_dim=self._rng.random() < night)
        kind = self._rng.random()
        if kind < night:
            return self._by_night()
        if kind < night + 0.4 * (1 - night):
            return self._overcast()
        return self._sunny()

    def _flat(self) -> Light:
        grey = np.full(3, _FLAT)
        return self._pack(grey * 0, np.stack((grey, grey)), [grey, grey, grey], 0.0)

    def _sunny(self) -> Light:
        rng = self._rng
        elevation = np.radians(rng.uniform(8, 70))
        warm = np.clip(1 - np.degrees(elevation) / 40, 0, 1)
        sun = rng.uniform(0.9, 2.2) * np.array([1.0, 0.93 - 0.2 * warm, 0.85 - 0.45 * warm])
        blue = rng.uniform(0.3, 1) * np.array([-0.2, 0.0, 0.25])
        above = rng.uniform(0.25, 0.55) * (1 + blue)
        zenith = (
            rng.uniform(0.3, 0.8)
            * np.array([0.3, 0.6, 1.2])
            * (1 + 0.3 * rng.normal(size=3) * 0.3)
        )
        horizon = rng.uniform(0.7, 1.3) * np.array([0.9 + 0.2 * warm, 0.95, 1.05 - 0.3 * warm])
        return self._pack(sun, np.stack((above, 0.5 * above)), [zenith, horizon, horizon * 1.15],
                          rng.exponential(0.25), elevation=elevation)  # fmt: skip

    def _overcast(self) -> Light:
        rng = self._rng
        cool = np.array([1.0, 1.0, 1.0]) + rng.normal(0, 0.05) * np.array([-1, 0, 1.2])
        level = rng.uniform(0.6, 1.1)
        grey = cool * level
        return self._pack(0.15 * grey, np.stack((grey, 0.35 * grey)),
                          [grey * rng.uniform(0.8, 1.2), grey * 1.2, grey * rng.uniform(0.7, 1.4)],
                          rng.exponential(0.7), elevation=1.0)  # fmt: skip

    def _by_night(self) -> Light:
        rng = self._rng
        dusk = rng.uniform(0, 1) ** 1.5
        level = 0.01 + 0.22 * dusk
        above = level * np.array([0.6, 0.8, 1.25])
        sky = level * np.array([0.5, 0.65, 1.0]) * rng.uniform(0.5, 1.5)
        glow = rng.uniform(0.3, 2.5)
        return self._pack(0 * above, np.stack((above, 0.5 * above)), [sky * 0.6, sky * 1.6, sky * 1.2],
                          rng.exponential(0.3), lamp=rng.uniform(0.4, 2.0), glow=glow,
                          target=rng.uniform(0.1, 0.28))  # fmt: skip

    def _indoors(self, *, is_dim: bool) -> Light:
        rng = self._rng
        tone = np.array([1.0, 0.9, 0.75]) if rng.random() < 0.5 else np.array([0.95, 1.0, 1.05])
        level = rng.uniform(0.02, 0.12) if is_dim else rng.uniform(0.15, 0.6)
        ambient = np.stack((0.8 * tone, tone)) * level
        side = np.array([rng.normal(), rng.normal(), 0.4])
        window = 0.0 if is_dim else rng.uniform(0, 0.5)
        return self._pack(window * np.array([0.9, 1.0, 1.1]), ambient, [tone, tone, tone], 0.0,
                          elevation=np.arctan2(side[2], np.hypot(side[0], side[1])),
                          lamp=rng.uniform(0.1, 0.9), glow=0.3 * is_dim,
                          target=rng.uniform(0.13, 0.26) if is_dim else None)  # fmt: skip

    def _pack(
        self, sun: Array, ambient: Array, sky: Sequence[Array], haze: float, *,
        elevation: float = 1.0, lamp: float = 0.0, glow: float = 0.0, target: float | None = None,
    ) -> Light:  # fmt: skip
        rng, extent = self._rng, self._extent
        azimuth = rng.uniform(0, 2 * np.pi)
        direction = [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
        density = np.array([0.3 * min(haze, 1.5) / max(extent, 1e-3), 0, 0])
        aim = (
            (0.34 if self._amount == 0 else rng.uniform(0.24, 0.42)) if target is None else target
        )
        numbers = (
            np.stack((np.array(direction), sun)), ambient, np.stack(list(sky)),
            np.stack((sky[1], density)), self._place_lamps(lamp), np.array([glow, aim]),
        )  # fmt: skip
        return Light(*(torch.from_numpy(np.asarray(value, np.float32)) for value in numbers))

    def _place_lamps(self, brightness: float) -> Array:
        """Some of the lamps are on; a headlight or torch may be, too."""
        rng = self._rng
        lamps = np.zeros((NUM_LAMPS, 2, 3))
        if brightness == 0 or len(self._lamps) == 0:
            return lamps
        chosen = rng.permutation(len(self._lamps))[:NUM_LAMPS]
        warm = np.array([1.0, rng.uniform(0.6, 0.95), rng.uniform(0.25, 0.9)])
        lamps[: len(chosen), 0] = self._lamps[chosen]
        reach = (0.25 * self._extent) ** 2 if not self._is_indoors else (0.7 * self._extent) ** 2
        strength = brightness * rng.uniform(0.4, 1.2, (len(chosen), 1)) * reach
        lamps[: len(chosen), 1] = strength * warm
        return lamps
