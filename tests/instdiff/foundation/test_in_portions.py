"""Of more pictures than a network is shown together each is encoded, and stands in its place."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from instdiff.foundation import blip, unet, vae
from instdiff.networks.vae import pixels


class Mirror(nn.Module):
    """An autoencoder whose latents are the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder, self.post_quant_conv, self.device = nn.Linear(1, 1), nn.Linear(1, 1), torch.device("cpu")
        self.config = SimpleNamespace(scaling_factor=0.5)
        self.requires_grad_(False).eval()

    def encode(self, pixels_BCHW: Tensor) -> SimpleNamespace:
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: pixels_BCHW))

    def decode(self, latents_BCHW: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=latents_BCHW)


def pictures(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 1, 2, 3), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 256, 257, 600])
def test_latents_of_a_base_model_are_those_of_each_picture_and_of_its_mirror_image(count: int) -> None:
    autoencoder: Any = Mirror()
    stored, mirrored = unet.encoded(autoencoder, pictures(count))
    assert torch.equal(stored, pixels(pictures(count)) / 2)
    assert torch.equal(mirrored, pixels(pictures(count)[:, :, ::-1].copy()) / 2)


@pytest.mark.parametrize("count", [1, 64, 65, 150])
def test_a_decoder_that_goes_on_rebuilds_each_picture_from_its_own_latents(count: int) -> None:
    autoencoder: Any = Mirror()
    loss = vae.decoder_loss(autoencoder, pictures(count), vae.Params.model_construct(seed=0, batch_size=50))
    assert [loss(step).item() for step in range(4)] == [0] * 4
    assert all(weight.requires_grad for weight in autoencoder.parameters())


@pytest.mark.parametrize("count", [1, 256, 257, 600])
def test_crops_are_kept_as_the_captioners_eye_takes_them_in_half_precision(count: int) -> None:
    def image_processor(images: list[NDArray[np.uint8]], return_tensors: str) -> SimpleNamespace:
        return SimpleNamespace(pixel_values=torch.from_numpy(np.stack(images)).movedim(-1, 1).float())

    processor: Any = SimpleNamespace(image_processor=image_processor)
    crops = blip.seen(processor, list(pictures(count)))
    assert crops.dtype == torch.float16
    assert torch.equal(crops.float(), torch.from_numpy(pictures(count)).movedim(-1, 1).float())
