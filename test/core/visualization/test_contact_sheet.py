import dataclasses

import numpy as np
import torch
from toy_pairs import PlanePairs

from pixloc_core.visualization.contact_sheet import draw_contact_sheet

WIDTH, HEIGHT = 96, 64


def test_every_pair_has_a_row_with_both_views() -> None:
    batch = PlanePairs((WIDTH, HEIGHT), num_points=1).batch([0, 1, 2])
    hidden = dataclasses.replace(
        batch, is_point=torch.zeros_like(batch.is_point), is_seen=torch.zeros_like(batch.is_seen)
    )
    sheet = draw_contact_sheet(hidden)
    assert sheet.dtype == np.uint8
    row = sheet.shape[0] // 3
    assert sheet.shape[0] == 3 * row
    assert sheet.shape[1] == 2 * WIDTH + 4
    top = 16
    for i, (reference, query) in enumerate(
        zip(batch.reference.image, batch.query.image, strict=True)
    ):
        for image, left in ((reference, 0), (query, WIDTH + 4)):
            shown = sheet[i * row + top : i * row + top + HEIGHT, left : left + WIDTH]
            expected = (image.movedim(0, -1) * 255).round().numpy()
            assert np.abs(shown - expected).max() <= 1


def test_seen_points_are_filled_and_hidden_ones_hollow() -> None:
    batch = PlanePairs((WIDTH, HEIGHT), num_points=1).batch([0])
    dark = dataclasses.replace(
        batch,
        reference=dataclasses.replace(batch.reference, image=0 * batch.reference.image),
        query=dataclasses.replace(batch.query, image=0 * batch.query.image),
        points_ref=torch.tensor([[[0.0, 0, 4]]]).double(),
        is_point=torch.tensor([[True]]),
    )
    for seen in (True, False):
        sheet = draw_contact_sheet(dataclasses.replace(dark, is_seen=torch.tensor([[seen]])))
        views = sheet[16 : 16 + HEIGHT, :WIDTH], sheet[16 : 16 + HEIGHT, WIDTH + 4 :]
        for view, camera, filled in zip(
            views, (dark.reference.camera, dark.query.camera), (True, seen), strict=True
        ):
            drawn = (view > 0).any(-1)
            assert drawn.any()
            y, x = (int(np.round(axis.mean())) for axis in drawn.nonzero())
            assert drawn[y, x] == filled, camera
