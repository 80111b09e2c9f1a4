"""How far one image of a view lies off another one of the same view, to a fraction of a pixel."""

from pathlib import Path

import cv2
import numpy as np

from pixloc_core.features.preprocessing import load_image

_BLUR_PX = 5
_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-6)


def measure_shift(first: Path, second: Path) -> tuple[float, float]:
    """Pixels (x, y) by which the content of the second image lies off that of the first.

    The translation with the largest correlation of the grey values, which brightness and
    contrast do not change (Evangelidis and Psarakis, "Parametric image alignment using enhanced
    correlation coefficient maximization", PAMI 2008, as OpenCV has it).

    Raises:
        ImageError: If an image cannot be read.
    """
    greys = [
        cv2.cvtColor(load_image(path), cv2.COLOR_RGB2GRAY).astype(np.float32)
        for path in (first, second)
    ]
    warp = np.eye(2, 3, dtype=np.float32)
    _, warp = cv2.findTransformECC(*greys, warp, cv2.MOTION_TRANSLATION, _CRITERIA, None, _BLUR_PX)
    return float(warp[0, 2]), float(warp[1, 2])
