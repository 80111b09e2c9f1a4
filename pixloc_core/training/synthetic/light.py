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
        glow: How bright lit windows are, the brightness that exposure aims at, and how far it
            follows this aim, `(v, 3)`.
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


@dataclass(frozen=True, kw_only=True)
class _Weather:
    """Light in a few numbers: colours (3,), elevation of the sun in radians."""

    sun: Array
    above: Array
    below: Array
    zenith: Array
    horizon: Array
    cloud: Array
    haze: float = 0.0
    elevation: float = 1.0
    lamp: float = 0.0
    glow: float = 0.0
    darkest: float = 0.24
    brightest: float = 0.42


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
        self,
        rng: np.random.Generator,
        *,
        is_indoors: bool,
        lamps: Array,
        extent: float,
        amount: float,
    ) -> None:
        self._rng = rng
        self._is_indoors = is_indoors
        self._lamps = lamps
        self._extent = max(extent, 1e-3)
        self._amount = amount

    def draw(self, night: float, eye: Array) -> Light:
        """The light of one view from `eye` (3,); a share of them by night."""
        rng = self._rng
        kind = rng.random()
        if self._is_indoors:
            weather = self._indoors(is_dim=kind < night)
        elif kind < night:
            weather = self._by_night()
        elif kind < night + 0.4 * (1 - night):
            weather = self._overcast()
        else:
            weather = self._sunny()
        return self._pack(weather, self._place_lamps(weather.lamp, eye))

    def _sunny(self) -> _Weather:
        rng = self._rng
        elevation = rng.uniform(0.14, 1.22)
        low = float(np.clip(1 - elevation / 0.7, 0, 1))
        above = rng.uniform(0.25, 0.55) * (1 + rng.uniform(0.3, 1) * np.array([-0.2, 0, 0.25]))
        blue = np.array([0.3, 0.6, 1.2]) * (1 + rng.normal(0, 0.1, 3))
        horizon = rng.uniform(0.7, 1.3) * np.array([0.9 + 0.2 * low, 0.95, 1.05 - 0.3 * low])
        return _Weather(
            sun=rng.uniform(0.9, 2.2) * np.array([1.0, 0.93 - 0.2 * low, 0.85 - 0.45 * low]),
            above=above, below=0.5 * above, zenith=rng.uniform(0.3, 0.8) * blue,
            horizon=horizon, cloud=1.15 * horizon, haze=rng.exponential(0.25),
            elevation=elevation,
        )  # fmt: skip

    def _overcast(self) -> _Weather:
        rng = self._rng
        grey = rng.uniform(0.6, 1.1) * (1 + rng.normal(0, 0.05) * np.array([-1, 0, 1.2]))
        return _Weather(
            sun=0.15 * grey, above=grey, below=0.35 * grey, zenith=rng.uniform(0.8, 1.2) * grey,
            horizon=1.2 * grey, cloud=rng.uniform(0.7, 1.4) * grey, haze=rng.exponential(0.7),
        )  # fmt: skip

    def _by_night(self) -> _Weather:
        rng = self._rng
        level = 0.01 + 0.22 * rng.uniform(0, 1) ** 1.5
        above = level * np.array([0.6, 0.8, 1.25])
        sky = level * rng.uniform(0.5, 1.5) * np.array([0.5, 0.65, 1.0])
        return _Weather(
            sun=0 * sky, above=above, below=0.5 * above, zenith=0.6 * sky, horizon=1.6 * sky,
            cloud=1.2 * sky, haze=rng.exponential(0.3), lamp=rng.uniform(0.4, 2.0),
            glow=rng.uniform(0.3, 2.5), darkest=0.1, brightest=0.28,
        )  # fmt: skip

    def _indoors(self, *, is_dim: bool) -> _Weather:
        rng = self._rng
        tone = np.array([1.0, 0.9, 0.75] if rng.random() < 0.5 else [0.95, 1.0, 1.05])
        ambient = tone * (rng.uniform(0.02, 0.12) if is_dim else rng.uniform(0.15, 0.6))
        # Light from a side stands for a window.
        window = 0.0 if is_dim else rng.uniform(0, 0.5)
        return _Weather(
            sun=window * np.array([0.9, 1.0, 1.1]), above=0.8 * ambient, below=ambient,
            zenith=tone, horizon=tone, cloud=tone, elevation=rng.uniform(0.2, 0.8),
            lamp=rng.uniform(0.1, 0.9), glow=0.3 * is_dim,
            darkest=0.13 if is_dim else 0.22, brightest=0.26 if is_dim else 0.42,
        )  # fmt: skip

    def _pack(self, weather: _Weather, lamps: Array) -> Light:
        rng, amount = self._rng, self._amount
        azimuth, high = rng.uniform(0, 2 * np.pi), weather.elevation
        level = np.cos(high)
        sun = np.array([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(high)])
        aim = rng.uniform(weather.darkest, weather.brightest)
        density = amount * 0.3 * min(weather.haze, 1.5) / self._extent

        def mix(colour: Array) -> Array:
            return (1 - amount) * _FLAT + amount * colour

        numbers = (
            np.stack((sun, amount * weather.sun)),
            np.stack((mix(weather.above), mix(weather.below))),
            np.stack((mix(weather.zenith), mix(weather.horizon), mix(weather.cloud))),
            np.stack((mix(weather.horizon), np.array([density, 0, 0]))),
            lamps * np.array([[[1.0], [amount]]]),
            np.array([amount * weather.glow, aim, amount]),
        )
        return Light(*(torch.from_numpy(np.asarray(value, np.float32)) for value in numbers))

    def _place_lamps(self, brightness: float, eye: Array) -> Array:
        """Some of the lamps are on; by night a headlight may be, too."""
        rng = self._rng
        lamps = np.zeros((NUM_LAMPS, 2, 3))
        if brightness == 0:
            return lamps
        reach = (0.7 if self._is_indoors else 0.25) * self._extent
        warm = np.array([1.0, rng.uniform(0.6, 0.95), rng.uniform(0.25, 0.9)])
        chosen = rng.permutation(len(self._lamps))[: NUM_LAMPS - 1]
        strength = brightness * rng.uniform(0.4, 1.2, (len(chosen), 1)) * reach**2
        lamps[: len(chosen), 0] = self._lamps[chosen]
        lamps[: len(chosen), 1] = strength * warm
        if not self._is_indoors and rng.random() < 0.4:
            lamps[-1] = np.stack((eye, rng.uniform(0.2, 1) * (0.5 * reach) ** 2 * np.ones(3)))
        return lamps
