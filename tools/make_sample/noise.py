"""Band-limited noise and colours: the raw material of all painted surfaces.

All images are float32 (h, w) or (h, w, 3), linear reflectance in [0, 1].
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Rng = np.random.Generator


def band(rng: Rng, shape: tuple[int, int], cell_px: float) -> Image:
    """Smooth noise in [-1, 1] whose blobs are about `cell_px` wide."""
    h, w = shape
    rows, cols = int(h / cell_px) + 3, int(w / cell_px) + 3
    coarse = rng.uniform(-1, 1, (rows, cols)).astype(np.float32)
    span = (max(w, int(cols * cell_px)), max(h, int(rows * cell_px)))
    top, left = rng.integers(0, span[1] - h + 1), rng.integers(0, span[0] - w + 1)
    fine = cv2.resize(coarse, span, interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine[top : top + h, left : left + w], np.float32)


def fractal(rng: Rng, shape: tuple[int, int], coarsest_px: float, decay: float = 0.65) -> Image:
    """Sum of noise bands from `coarsest_px` down to 2 px, each `decay` times the one before."""
    total = np.zeros(shape, np.float32)
    cell, amplitude, energy = coarsest_px, 1.0, 0.0
    while cell >= 2.0:
        total += amplitude * band(rng, shape, cell)
        energy += amplitude**2
        cell, amplitude = cell / 2.0, amplitude * decay
    return np.asarray(total / np.sqrt(max(energy, 1e-9)), np.float32)


def stretched(rng: Rng, shape: tuple[int, int], coarsest_px: float, along: int) -> Image:
    """Fractal noise drawn out `along` times in x: grain, brush strokes, scratches."""
    h, w = shape
    narrow = fractal(rng, (h, max(w // along, 2)), coarsest_px)
    return np.asarray(cv2.resize(narrow, (w, h), interpolation=cv2.INTER_CUBIC), np.float32)


def colour(rng: Rng, saturation: tuple[float, float] = (0.2, 0.8), value: float = 0.6) -> Image:
    """A random linear RGB reflectance (3,)."""
    hsv = np.array(
        [[[rng.uniform(0, 360), rng.uniform(*saturation), value * rng.uniform(0.6, 1.3)]]],
        np.float32,
    )
    rgb = cv2.cvtColor(np.clip(hsv, 0, [[[360, 1, 1]]]).astype(np.float32), cv2.COLOR_HSV2RGB)
    return np.asarray(np.clip(rgb[0, 0], 0.03, 0.85) ** 1.6, np.float32)


def tint(grey: Image, base: Image, strength: float) -> Image:
    """Colour `base` (3,) or (h, w, 3), modulated by noise `grey` (h, w) of about [-1, 1]."""
    return finish(base * (1.0 + strength * grey[..., None]))


def finish(image: Image) -> Image:
    """Clip to reflectances that real surfaces have."""
    return np.asarray(np.clip(image, 0.02, 0.88), np.float32)
