"""What needs a GPU to be slow, held without one: at full size nothing is read back, copied or left on the CPU.

FakeTensorMode computes shapes and devices alone. The sizes are Stable Diffusion 1.5's, thirty instances, masks of 512.
"""

import copy
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from fake_cuda import Copied, NoCopies, all_on_gpu, fake_gpu, for_real, running
from tiny_pipeline import TOKENIZER
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from instdiff.checkpoints import official
from instdiff.layouts import masks
from instdiff.model import unet as networks
from instdiff.model.scaleu import ScaleU
from instdiff.model.unet import InstanceUNet
from instdiff.sampling import few_steps, pipeline, solvers
from instdiff.sampling.multi_instance import sample_multi_instance
from instdiff.sampling.pipeline import InstanceDiffusionPipeline
from instdiff.sampling.solvers import scheduler, solver
from instdiff.schema import Box, Instance, Layout, Point

MASK = np.zeros((512, 512), dtype=bool)
MASK[40:200, 100:300] = True
INSTANCES = tuple(
    Instance(phrase=f"thing {n}", box=Box(0.1, 0.1, 0.6, 0.7), point=Point(0.3, 0.3), mask=masks.encode(MASK))
    for n in range(30)
)
CROWD = Layout(key="crowd", prompt="a crowd", instances=INSTANCES)


@pytest.fixture(scope="module")
def pipe() -> InstanceDiffusionPipeline:
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    with fake_gpu():
        unet = InstanceUNet(
            **official.SD15_UNET, unifusion_config=official.OFFICIAL_UNIFUSION.model_dump(mode="json"), scale_u=True
        )
        text = CLIPTextModel(CLIPTextConfig(**official.SD15_TEXT))
        vae = AutoencoderKL(**official.SD15_VAE)
        for network in (unet, text, vae):
            network.requires_grad_(False).eval()
        return InstanceDiffusionPipeline(vae, text, tokenizer, unet, for_real(scheduler)("plms"))


def drawn(pipe: InstanceDiffusionPipeline, layout: Layout = CROWD, **options: Any) -> Tensor:
    """Latents of the pipeline's whole way; in the loop no copy between devices is allowed."""

    def loop(*inputs: Any, **named: Any) -> Tensor:
        with NoCopies():
            return sample_multi_instance(*inputs, **named)

    options = {"num_inference_steps": 3, "mis": 0.4, "alpha": 0.7, "max_rows": 64, "output_type": "latent"} | options
    with ExitStack() as stack:
        for module, name, instead in (
            (pipeline, "solver", for_real(solver)),
            (pipeline, "finite", lambda rows, *_: rows),  # read back once, after the loop
            (pipeline.multi_instance, "sample_multi_instance", loop),
            (solvers, "copy", SimpleNamespace(deepcopy=for_real(copy.deepcopy), copy=copy.copy)),
        ):
            stack.enter_context(patch.object(module, name, instead))
        stack.enter_context(running())
        latents: Tensor = pipe(layout, **options).images
    return latents


@pytest.mark.parametrize("name", ["plms", "dpm", "lcm"])
def test_a_crowd_is_drawn_without_waiting_for_the_device(pipe: InstanceDiffusionPipeline, name: str) -> None:
    pipe.scheduler = for_real(scheduler)(name)
    noise = {"step_noise": lambda _: torch.empty(1, 4, 64, 64)} if name == "lcm" else {}
    latents = drawn(pipe, **noise)
    assert latents.shape == (1, 4, 64, 64) and all_on_gpu(latents)


@pytest.mark.parametrize(
    "options",
    [
        {"merge": "regions", "masked_attention": "finest"},
        {"compat": "reference"},
        {"guidance_interval": (0.25, 0.75)},
        {"reuse": 2},
        {"formats": ()},
    ],
)
def test_every_option_is_drawn_without_waiting(pipe: InstanceDiffusionPipeline, options: dict[str, Any]) -> None:
    pipe.scheduler = for_real(scheduler)("plms")
    few = CROWD.model_copy(update={"instances": INSTANCES[:3]})
    assert all_on_gpu(drawn(pipe, few, **options))


def by_the_cpu(x: Tensor) -> Tensor:
    return x.cpu().to(x.device)


def by_reading(x: Tensor) -> Tensor:
    return x * float(x.abs().max().item() > 0)


@pytest.mark.parametrize(("planted", "error"), [(by_the_cpu, Copied), (by_reading, DataDependentOutputException)])
@pytest.mark.parametrize(("place", "name"), [(ScaleU, "forward"), (few_steps.Lcm, "step"), (networks, "_of_blocks")])
def test_what_waits_for_the_device_in_the_loop_is_noticed(
    pipe: InstanceDiffusionPipeline, planted: Callable[[Tensor], Tensor], error: type[Exception], place: Any, name: str
) -> None:
    pipe.scheduler = for_real(scheduler)("lcm")
    plain = getattr(place, name)

    def waits(*inputs: Any, **named: Any) -> Any:
        for tensor in [value for value in inputs if isinstance(value, Tensor)] or [torch.empty(2, device="cuda")]:
            planted(tensor)
        return plain(*inputs, **named)

    few = CROWD.model_copy(update={"instances": INSTANCES[:1]})
    with patch.object(place, name, waits), pytest.raises(error):
        drawn(pipe, few, step_noise=lambda _: torch.empty(1, 4, 64, 64))


def test_a_network_left_on_the_cpu_is_noticed(pipe: InstanceDiffusionPipeline) -> None:
    pipe.scheduler = for_real(scheduler)("plms")
    plain = pipe.unet.conv_out
    with running():
        pipe.unet.conv_out = torch.nn.Conv2d(320, 4, 3, padding=1, device="cpu")
    try:
        with pytest.raises(RuntimeError, match="on the same device"):
            drawn(pipe, CROWD.model_copy(update={"instances": ()}))
    finally:
        pipe.unet.conv_out = plain
