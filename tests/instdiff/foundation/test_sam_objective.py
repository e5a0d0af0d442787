"""What the small SAM learns by, worked out by hand."""

import math

import pytest
import torch

from instdiff.foundation.sam import iou, objective


def test_the_objective_of_a_hand_worked_mask() -> None:
    logits, masks = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    dice = 1 - (2 * 0.5 + 1) / (4 * 0.5 + 1 + 1)
    expected = 5 * math.log(2) + dice + (0.5 - 0) ** 2  # a logit of 0 is no pixel of the mask
    assert objective(logits, masks, torch.tensor([0.5])).item() == pytest.approx(expected)


def test_nothing_where_nothing_is_costs_nothing() -> None:
    logits, masks = torch.full((1, 2, 2), -50.0), torch.zeros(1, 2, 2)
    assert iou(logits, masks).tolist() == [0]
    assert objective(logits, masks, torch.zeros(1)).item() == pytest.approx(0, abs=1e-6)


def test_the_iou_counts_pixels_above_zero() -> None:
    logits = torch.tensor([[[1.0, 1.0], [0.0, -1.0]]])
    assert iou(logits, torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])).tolist() == pytest.approx([1 / 3])
