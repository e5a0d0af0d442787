"""What needs a GPU to be slow, held without one: training, embedding, judging and annotating at full size.

FakeTensorMode computes shapes and devices alone. What comes out may go to the CPU, once, at the end: nothing before.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from fake_cuda import Copied, NoCopies, all_on_gpu, fake_gpu, running
from segment_anything import sam_model_registry
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from data_prep.embed import encode
from instdiff.checkpoints import official
from instdiff.data.batches import Batch
from instdiff.layouts.formats import LOCATION_FORMATS
from instdiff.model import noise_schedule
from instdiff.model.conditions import Conditions
from instdiff.model.unet import InstanceUNet
from instdiff.networks import inception, sam_masks
from instdiff.networks.clip import Clip
from instdiff.networks.detector import Detector
from instdiff.networks.device import PLAIN
from instdiff.networks.sam import decoded
from instdiff.training.train import Objective

SLOTS = official.OFFICIAL_UNIFUSION
PICTURE = np.zeros((512, 512, 3), np.uint8)


@pytest.fixture(scope="module")
def unet() -> InstanceUNet:
    with fake_gpu():
        config = SLOTS.model_dump(mode="json")
        built: InstanceUNet = InstanceUNet(**official.SD15_UNET, unifusion_config=config, scale_u=True)
        return built.freeze_base().train()


def batch(size: int = 2) -> Batch:
    """Everything given, on the GPU: thirty instances, masks of 512."""
    flags = torch.ones(size, SLOTS.max_instances, dtype=torch.bool, device="cuda")
    parts: dict[str, Tensor] = {}
    for entry in LOCATION_FORMATS:
        dtype = torch.bool if entry.kind == "mask" else torch.float32
        parts[entry.tensor] = torch.zeros(*flags.shape, *entry.shape(SLOTS), dtype=dtype, device="cuda")
        parts[f"{entry.name}_given_BN"] = flags
    text = torch.zeros(*flags.shape, SLOTS.text_width, device="cuda")
    latents = torch.zeros(size, 4, 64, 64, device="cuda")
    timesteps = torch.zeros(size, dtype=torch.int64, device="cuda")
    prompts = torch.zeros(size, 77, SLOTS.text_width, device="cuda")
    return Batch(latents, latents, timesteps, prompts, Conditions(text_BND=text, filled_BN=flags, **parts))


def params(masked: bool) -> Any:
    return SimpleNamespace(masked_attention=masked, compat=None, min_snr=5.0)


@pytest.mark.parametrize("masked", [False, True])
def test_a_training_step_neither_waits_for_the_device_nor_leaves_it(unet: InstanceUNet, masked: bool) -> None:
    """The forward pass: autograd asks for a device that is there, and nothing of ours is in its way back."""
    with running():
        objective, inputs = Objective(unet, params(masked), (64, 64)), batch()
        noise_schedule.alphas_on(inputs.latents_BChw.device)  # copied once, by the first step
        with NoCopies():
            loss = objective(inputs)
    assert loss.shape == () and loss.requires_grad
    assert all_on_gpu(loss)


@pytest.mark.parametrize(
    ("planted", "error"),
    [(lambda x: x.cpu().to(x.device), Copied), (lambda x: x * x.sum().item(), DataDependentOutputException)],
)
def test_what_waits_for_the_device_in_a_training_step_is_noticed(
    unet: InstanceUNet, planted: Any, error: type[Exception]
) -> None:
    with running():
        objective, inputs = Objective(unet, params(False), (64, 64)), batch(1)
        noise_schedule.alphas_on(inputs.latents_BChw.device)
        hook = unet.mid_block.register_forward_hook(lambda _, __, out: planted(out))
        try:
            with pytest.raises(error), NoCopies():
                objective(inputs)
        finally:
            hook.remove()


def test_pictures_and_their_mirror_images_are_embedded_on_the_device() -> None:
    with fake_gpu():
        vae = AutoencoderKL(**official.SD15_VAE).requires_grad_(False)
    with running(), NoCopies():
        pixels = torch.empty(4, 3, 512, 512, device="cuda")
        mean, std = encode(pixels, vae)
    assert mean.shape == std.shape == (4, 2, 4, 64, 64)
    assert all_on_gpu(mean, std)


@pytest.fixture(scope="module")
def judge() -> Clip:
    """At the size of ViT-L/14, in half precision."""
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    config = CLIPConfig(vision_config=vision | {"image_size": 224, "patch_size": 14}, projection_dim=768)
    with fake_gpu():
        model = CLIPModel._from_config(config, dtype=torch.float16).requires_grad_(False).eval()

    def words(texts: list[str], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=torch.ones(len(texts), 77, dtype=torch.int64, device="cpu"))

    return Clip(model, words)  # type: ignore[arg-type]


def test_the_judge_looks_on_its_device_and_hands_out_floats_on_the_cpu(judge: Clip) -> None:
    with running():
        features = judge.image_features([PICTURE, PICTURE]), judge.text_features(["a red ring"])
        pixels = torch.empty(2, 3, 224, 224, device="cuda", dtype=torch.float16)
        with NoCopies(), torch.no_grad():
            assert all_on_gpu(judge._images(pixels))
    assert [(tuple(tensor.shape), tensor.device.type, tensor.dtype) for tensor in features] == [
        ((2, 768), "cpu", torch.float32),
        ((1, 768), "cpu", torch.float32),
    ]


def test_inception_looks_on_its_device() -> None:
    with fake_gpu():
        network = inception.build().eval().requires_grad_(False)
    with running(), NoCopies():
        pixels = torch.empty(1, 3, 512, 512, device="cuda")
        seen = F.interpolate(pixels, (inception.SIDE, inception.SIDE), mode="bilinear", align_corners=False)
        assert all_on_gpu(network(2 * seen - 1))


class Yolo:
    """Remembers where it was asked to look."""

    options: dict[str, Any]

    def predict(self, pictures: list[Any], **how: Any) -> list[Any]:
        self.options = how
        return [SimpleNamespace(masks=None)] * len(pictures)


def test_the_detector_looks_where_it_was_placed() -> None:
    model = Yolo()
    where = PLAIN.model_copy(update={"precision": "float16"})
    assert Detector(model, ("cat",), 640, 0.001, 0.6, where).detect([PICTURE]) == [[]]
    assert (model.options["device"], model.options["quantize"]) == ("cpu", 16)


def test_sam_fills_boxes_on_its_device() -> None:
    with fake_gpu():
        sam = sam_masks.fused(sam_model_registry["vit_h"]()).requires_grad_(False).eval()
        sam.pixel_mean, sam.pixel_std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)  # elsewhere moved with the rest
    with running():
        pictures = torch.stack([sam.preprocess(torch.empty(3, 1024, 683, device="cuda")) for _ in range(2)])
        boxes = torch.empty(30, 4, device="cuda")
        owners = torch.zeros(30, dtype=torch.int64, device="cuda")
        with NoCopies():
            embeddings = sam.image_encoder(pictures)
            logits, scores = decoded(sam, embeddings[owners], boxes)
            masks = sam.postprocess_masks(logits, (1024, 683), (768, 512)) > sam.mask_threshold
    assert masks.shape == (30, 1, 768, 512)
    assert all_on_gpu(masks, scores)
