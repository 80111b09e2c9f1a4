"""Shifts between two images of a view are found to a tenth of a pixel, whatever the light."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.image_shift import measure_shift


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.5, -2.0), (-0.4, 0.7)])
def test_a_known_shift_is_found_in_dark_and_noisy_images(
    tmp_path: Path, shift: tuple[float, float]
) -> None:
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.uniform(0, 255, (20, 30)).astype(np.float32), (300, 200))
    warp = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    moved = cv2.warpAffine(image, warp, (300, 200), borderMode=cv2.BORDER_REFLECT)
    dark = 0.3 * moved + rng.normal(0, 4, moved.shape)
    for name, content in (("plain", image), ("dark", dark)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.clip(content, 0, 255).astype(np.uint8))
    found = measure_shift(tmp_path / "plain.png", tmp_path / "dark.png")
    assert found == pytest.approx(shift, abs=0.1)
