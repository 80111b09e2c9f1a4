"""Pictures of one query: map points on the image, and the confidence image."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pixloc_core.errors import ImageError
from pixloc_core.localizer.result import Evidence, Localization

Image = NDArray[np.uint8]
_GOOD, _BAD = 0.0, 1.0
_ENDINGS = (".png", ".jpg", ".jpeg")
_MEAN_BRIGHTNESS, _MAX_GAIN = 75.0, 3.0


def draw_evidence(image: Image, evidence: Evidence, *, worst: float = 1.0) -> Image:
    """Map points at their projections under the pose found, coloured by their residual.

    Green points agree with the image, red ones do not; small dots have little weight. A good pose
    has its points on the very details that they stand for.

    Args:
        image: The query (h, w, 3) RGB or (h, w) grey, uint8.
        evidence: Its points.
        worst: Residual that is drawn in full red.

    Returns:
        RGB picture (h, w, 3).
    """
    valid = evidence.valid.cpu().numpy()
    points = evidence.points_px.detach().cpu().numpy()[valid]
    residual = evidence.residual.detach().cpu().numpy()[valid]
    weight = evidence.weight.detach().cpu().numpy()[valid]
    order = np.argsort(-residual)
    badness = np.clip(residual / worst, _GOOD, _BAD)
    scale = max(image.shape[:2]) / 640
    radius = scale * np.where(weight > 0.25 * np.max(weight, initial=1e-12), 3.0, 1.8)
    return draw_dots(_dimmed(image), points[order], badness[order], radius[order])


def draw_dots(
    image: Image,
    points_px: NDArray[np.floating],
    badness: NDArray[np.floating],
    radius: NDArray[np.floating],
) -> Image:
    """Filled dots from green (badness 0) over yellow to red (1), with sub-pixel positions.

    Args:
        image: RGB picture, left as it is.
        points_px: Centres (n, 2).
        badness: Colours (n,), in [0, 1].
        radius: Radii (n,) in pixels.
    """
    picture = image.copy()
    ramp = np.stack([2 * badness, 2 * (1 - badness), np.zeros_like(badness)], -1)
    colours = np.round(255 * np.clip(ramp, 0, 1)).astype(int)
    shift = 3
    centres = np.round(points_px * 2**shift).astype(int)
    radii = np.maximum(np.round(radius * 2**shift), 1).astype(int)
    for centre, colour, size in zip(
        centres.tolist(), colours.tolist(), radii.tolist(), strict=True
    ):
        cv2.circle(picture, centre, size + 4, (20, 20, 20), -1, cv2.LINE_AA, shift)
        cv2.circle(picture, centre, size, colour, -1, cv2.LINE_AA, shift)
    return picture


def draw_confidence(image: Image, confidence: NDArray[np.floating]) -> Image:
    """The image tinted by the confidence of its pixels: dark blue none, yellow most.

    Args:
        image: The query (h, w, 3) RGB or (h, w) grey, uint8.
        confidence: (h, w) in [0, 1]; another resolution is scaled.
    """
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    scaled = cv2.resize(confidence.astype(np.float32), (width, height))
    levels = np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
    tint = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_CIVIDIS), cv2.COLOR_BGR2RGB)
    base = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(base, 0.35, tint, 0.65, 0.0), np.uint8)


def draw_localization(image: Image, result: Localization) -> Image:
    """Overlay and confidence of one answer side by side, with a line of text below."""
    rgb = as_rgb(image)
    left = rgb if result.evidence is None else draw_evidence(rgb, result.evidence)
    pair = np.concatenate([left, draw_confidence(rgb, result.confidence_image())], axis=1)
    text = f"{result.status.name}: {result.reason}"
    return add_caption(np.asarray(pair, np.uint8), text)


def as_rgb(image: Image) -> Image:
    """The picture with three channels."""
    if image.ndim == 3:
        return image
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)


def add_caption(picture: Image, text: str) -> Image:
    """The picture with a line of text below."""
    width = picture.shape[1]
    scale = min(max(width / 1600, 0.45), 1.0)
    strip = np.full((round(34 * scale) + 6, width, 3), 24, np.uint8)
    place = (8, strip.shape[0] - round(10 * scale) - 2)
    cv2.putText(
        strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale * 0.8, (235,) * 3, 1, cv2.LINE_AA
    )
    return np.concatenate([picture, strip], axis=0)


def write_picture(path: str, picture: Image) -> None:
    """Write an RGB picture as PNG or JPEG, by the ending of the path.

    Raises:
        ImageError: If the path has another ending or cannot be written.
    """
    ending = Path(path).suffix
    if ending.lower() not in _ENDINGS:
        raise ImageError(
            f"{path}: pictures are not written as {ending or 'files without an ending'}, "
            f"expected {', '.join(_ENDINGS)}"
        )
    _, encoded = cv2.imencode(ending, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    try:
        Path(path).write_bytes(encoded.tobytes())
    except OSError as error:
        raise ImageError(f"{path}: picture cannot be written: {error.strerror}") from error


def encode_picture(picture: Image, *, quality: int = 88) -> bytes:
    """Bytes of an RGB picture as a JPEG file."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(np.asarray(encoded, np.uint8).tobytes())


def tile_row(encoded: Sequence[bytes], height: int) -> Image:
    """PNG or JPEG files side by side, all brought to one height, as an RGB picture."""
    tiles = []
    for content in encoded:
        picture = np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR))
        width = round(picture.shape[1] * height / picture.shape[0])
        tiles.append(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
    return np.asarray(cv2.cvtColor(np.concatenate(tiles, axis=1), cv2.COLOR_BGR2RGB), np.uint8)


def _dimmed(image: Image) -> Image:
    """Half grey and of one mean brightness, by day and by night, so that dots stand out."""
    rgb = as_rgb(image)
    grey = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    gain = min(_MEAN_BRIGHTNESS / max(float(grey.mean()), 1.0), _MAX_GAIN)
    return np.asarray(cv2.addWeighted(rgb, 0.55 * gain, grey, 0.45 * gain, 0.0), np.uint8)
