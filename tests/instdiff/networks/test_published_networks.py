"""Networks that others have published: their sizes, and how a picture comes into them, as their files want it."""

import inspect
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional as F
from torchvision.models import Inception3

from instdiff.networks import inception, sam, sam_masks
from instdiff.networks.dinov2 import Dinov2


def test_fids_inception_has_the_sizes_of_torchvisions_with_the_classes_of_2015() -> None:
    with torch.device("meta"):
        ours = inception.build()
        theirs = Inception3(num_classes=1008, aux_logits=False, init_weights=False)
    assert not ours.transform_input  # pictures come as they were trained on
    shapes = [{name: weight.shape for name, weight in each.state_dict().items()} for each in (ours, theirs)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("size", [(20, 60), (299, 299), (400, 310)])
def test_inception_sees_299_places_a_side_between_the_middles_of_pixels(size: tuple[int, int]) -> None:
    seen: list[Tensor] = []
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    network: Any = lambda x: (seen.append(x), torch.zeros(len(x), 2048))[1]  # noqa: E731
    inception.Inception(network).image_features([pixels])
    levels = torch.from_numpy(pixels).movedim(-1, 0)[None] / 255
    expected = F.interpolate(levels, (299, 299), mode="bilinear", align_corners=False)
    assert torch.allclose(seen[0], 2 * expected - 1, atol=1e-6)


def test_the_width_of_a_sams_encoder_says_which_of_the_released_ones_it_is() -> None:
    widths = {}
    for name in ("vit_h", "vit_l", "vit_b"):
        with torch.device("meta"):
            widths[sam_model_registry[name]().image_encoder.pos_embed.shape[-1]] = name
    assert widths == sam_masks.RELEASED


def test_a_sam_of_ours_centres_colours_as_the_released_ones_do() -> None:
    defaults = inspect.signature(Sam.__init__).parameters
    assert list(sam.PIXEL_MEAN) == defaults["pixel_mean"].default
    assert list(sam.PIXEL_STD) == defaults["pixel_std"].default


def test_dinov2_sees_224_pixels_a_side_with_imagenets_mean_and_spread() -> None:
    seen: list[Tensor] = []

    class Network:
        device, dtype = torch.device("cpu"), torch.float32

        def __call__(self, pixels: Tensor) -> SimpleNamespace:
            seen.append(pixels)
            return SimpleNamespace(pooler_output=torch.ones(len(pixels), 2, dtype=torch.float16))

    network: Any = Network()
    features = Dinov2(network).image_features([np.full((3, 5, 3), (0, 51, 255), np.uint8)] * 2)
    assert features.dtype == torch.float32 and features.shape == (2, 2)
    colour = torch.tensor([(0 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    assert torch.allclose(seen[0], colour.view(1, 3, 1, 1).expand(2, 3, 224, 224), atol=1e-5)
