"""Painters of things that carry print: posters, labels, book spines, notices, cardboard."""

import string

import cv2
import numpy as np

from tools.make_sample.noise import Image, Rng, colour, finish, fractal, tint
from tools.make_sample.textures import Painter

_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
)


def _word(rng: Rng) -> str:
    letters = rng.choice(list(string.ascii_uppercase + string.digits), rng.integers(2, 9))
    return "".join(letters)


def write(rng: Rng, image: Image, at: tuple[int, int], height: float, ink: list[float]) -> None:
    """One random word, its lower left corner at `at`, `height` px tall."""
    scale = height / 22.0
    thickness = max(round(scale * rng.uniform(1.5, 3.5)), 1)
    font = _FONTS[rng.integers(len(_FONTS))]
    cv2.putText(image, _word(rng), at, font, scale, ink, thickness, cv2.LINE_AA)


def poster(rng: Rng, shape: tuple[int, int], density: float) -> Image:
    """A framed print: colour field, figures, headline, small text."""
    h, w = shape
    image = np.empty((h, w, 3), np.float32)
    ramp = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
    image[:] = colour(rng) * ramp + colour(rng) * (1 - ramp)
    for _ in range(int(rng.integers(8, 22))):
        _figure(rng, image)
    for _ in range(int(rng.integers(1, 4))):
        at = (int(rng.uniform(0.05, 0.4) * w), int(rng.uniform(0.15, 0.95) * h))
        write(rng, image, at, h * rng.uniform(0.06, 0.14), colour(rng).tolist())
    _small_print(rng, image, density)
    image *= 1.0 + 0.10 * fractal(rng, shape, 0.2 * density)[..., None]
    edge = max(int(0.025 * density), 2)
    cv2.rectangle(image, (0, 0), (w - 1, h - 1), colour(rng, (0.1, 0.5), 0.3).tolist(), edge)
    return finish(image)


def _figure(rng: Rng, image: Image) -> None:
    h, w = image.shape[:2]
    ink = colour(rng, (0.1, 0.9), 0.7).tolist()
    kind = rng.integers(0, 4)
    x, y = int(rng.uniform(0, w)), int(rng.uniform(0, h))
    size = int(min(h, w) * rng.uniform(0.05, 0.28))
    if kind == 0:
        cv2.circle(image, (x, y), size, ink, -1, cv2.LINE_AA)
    elif kind == 1:
        cv2.ellipse(
            image, (x, y), (size, size // 2 + 1), rng.uniform(0, 180), 0, 360, ink, 3, cv2.LINE_AA
        )
    elif kind == 2:
        cv2.fillPoly(image, [rng.normal((x, y), size, (5, 2)).astype(np.int32)], ink, cv2.LINE_AA)
    else:
        end = rng.normal((x, y), 2 * size).astype(int).tolist()
        cv2.line(image, (x, y), end, ink, max(size // 8, 1), cv2.LINE_AA)


def _small_print(rng: Rng, image: Image, density: float) -> None:
    h, w = image.shape[:2]
    line = max(int(0.022 * density), 5)
    left, right = sorted(int(v) for v in rng.uniform(0.05, 0.95, 2) * w)
    top = int(rng.uniform(0.4, 0.8) * h)
    ink = colour(rng, (0.0, 0.3), 0.2).tolist()
    for y in range(top, min(top + 7 * line, h - line), line):
        x = left
        while x < right:
            length = int(rng.uniform(0.5, 3.0) * line)
            cv2.rectangle(image, (x, y), (x + length, y + line // 2), ink, -1)
            x += length + line // 2


def notices(rng: Rng, shape: tuple[int, int], density: float) -> Image:
    """A cork board full of overlapping notes."""
    h, w = shape
    image = tint(fractal(rng, shape, 6, 1.0), np.array([0.42, 0.27, 0.14], np.float32), 0.35)
    for _ in range(int(h * w / density**2 * 55)):
        nh, nw = (int(v) for v in rng.uniform(0.07, 0.24, 2) * density)
        note = np.empty((nh, nw, 3), np.float32)
        note[:] = colour(rng, (0.0, 0.6), 0.85)
        for _ in range(3):
            _figure(rng, note)
        _small_print(rng, note, density * 0.8)
        write(rng, note, (3, nh // 3 + 3), nh * 0.25, colour(rng, (0, 1), 0.3).tolist())
        turn = cv2.getRotationMatrix2D((nw / 2, nh / 2), rng.uniform(-14, 14), 1.0)
        turn[:, 2] += rng.uniform(0, 1, 2) * (w - nw, h - nh)
        mask = cv2.warpAffine(np.ones((nh, nw), np.float32), turn, (w, h))[..., None]
        image = image * (1 - mask) + cv2.warpAffine(note, turn, (w, h)) * mask
    return finish(image)


def spine(rng: Rng, shape: tuple[int, int], density: float) -> Image:
    """Book: one cloth colour with bands and a title along the height."""
    h, w = shape
    base = colour(rng, (0.1, 0.95), 0.6)
    image = tint(fractal(rng, shape, 0.05 * density, 0.9), base, 0.15)
    ink = colour(rng, (0.0, 0.6), 0.75).tolist()
    for _ in range(int(rng.integers(1, 4))):
        y = int(rng.uniform(0.05, 0.95) * h)
        cv2.rectangle(image, (0, y), (w, y + int(rng.uniform(1, 6))), ink, -1)
    title = np.ascontiguousarray(np.rot90(image))
    step = max(int(0.05 * density), 8)
    for x in range(6, h - 2 * step, 4 * step):
        write(rng, title, (x, int(step * 0.8)), step * 0.6, ink)
    return finish(np.ascontiguousarray(np.rot90(title, -1)))


def carton(base: tuple[float, float, float] = (0.45, 0.30, 0.17)) -> Painter:
    """Cardboard: tape, labels, stamps, scuffs."""

    def paint(rng: Rng, shape: tuple[int, int], density: float) -> Image:
        h, w = shape
        image = tint(fractal(rng, shape, 0.3 * density, 0.85), np.array(base, np.float32), 0.22)
        tape = int(h * rng.uniform(0.35, 0.6))
        image[tape : tape + max(int(0.05 * density), 2)] *= np.array([1.4, 1.3, 1.0], np.float32)
        for _ in range(max(int(h * w / density**2 * 14), 3)):
            lh, lw = (max(int(v), 6) for v in rng.uniform(0.05, 0.2, 2) * density)
            x, y = int(rng.uniform(0, max(w - lw, 1))), int(rng.uniform(0, max(h - lh, 1)))
            label = np.empty((lh, lw, 3), np.float32)
            label[:] = colour(rng, (0.0, 0.8), 0.8)
            _small_print(rng, label, density)
            write(rng, label, (2, lh // 2), lh * 0.4, colour(rng, (0, 1), 0.25).tolist())
            place = image[y : y + lh, x : x + lw]
            place[:] = label[: place.shape[0], : place.shape[1]]
        for _ in range(4):
            at = (int(rng.uniform(0, w)), int(rng.uniform(0.2, 1) * h))
            write(rng, image, at, rng.uniform(0.05, 0.12) * density, [0.05, 0.05, 0.08])
        return finish(image)

    return paint


def jumble(rng: Rng, shape: tuple[int, int], density: float) -> Image:
    """Densely decorated surface (painted tins, toys, cushions)."""
    h, w = shape
    image = tint(fractal(rng, shape, 0.15 * density, 0.8), colour(rng, (0.3, 0.9)), 0.3)
    for _ in range(max(int(h * w / density**2 * 160), 10)):
        patch = max(int(0.12 * density), 8)
        y, x = int(rng.uniform(-patch / 2, h)), int(rng.uniform(-patch / 2, w))
        view = image[max(y, 0) : y + patch, max(x, 0) : x + patch]
        if min(view.shape[:2]) > 4:
            part = np.ascontiguousarray(view)
            _figure(rng, part)
            view[:] = part
    return finish(image)
