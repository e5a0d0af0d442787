"""Laws of the pipeline, on networks of the real classes small enough to draw in milliseconds."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from PIL import Image
from tiny_pipeline import base, build, shared, vae, words
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from instdiff.layouts import masks
from instdiff.layouts.formats import FORMATS
from instdiff.model.noise_schedule import alphas_cumprod
from instdiff.sampling import guidance, multi_instance, pipeline
from instdiff.sampling.memory import Size
from instdiff.sampling.pipeline import InstanceDiffusionPipeline
from instdiff.sampling.refiner import refined
from instdiff.sampling.solvers import scheduler, solver
from instdiff.schema import Box, Instance, Layout, Point

MASK = np.zeros((32, 32), dtype=bool)
MASK[4:20, 10:30] = True
CAT = Instance(phrase="a red ring", box=Box(0.1, 0.1, 0.6, 0.7), point=Point(0.3, 0.3))
DOG = Instance(phrase="a blue disc", mask=masks.encode(MASK), scribble=(Point(0.4, 0.2), Point(0.6, 0.5)))
ONE = Layout(key="one", prompt="a red ring", instances=(CAT,))
TWO = Layout(key="two", prompt="a red ring and a blue disc", instances=(CAT, DOG))


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


def latents(pipe: InstanceDiffusionPipeline, *inputs: Any, **options: Any) -> Tensor:
    options = {"num_inference_steps": 5, "generator": seeds(0)[0], "mis": 0.5, "output_type": "latent"} | options
    images: Tensor = pipe(*inputs, **options).images
    return images


@contextmanager
def counted(pipe: InstanceDiffusionPipeline) -> Iterator[list[int]]:
    """Rows of each forward pass of UniFusion."""
    rows: list[int] = []
    handle = pipe.unet.unifusion.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    yield rows
    handle.remove()


def test_a_prompt_with_instances_is_the_layout_of_them() -> None:
    written = {"phrase": "a blue disc", "mask": DOG.mask, "scribble": [(0.4, 0.2), (0.6, 0.5)]}
    by_hand = latents(shared(), TWO.prompt, [CAT, written])
    assert torch.equal(by_hand, latents(shared(), TWO))


@pytest.mark.parametrize("solver", ["plms", "dpm", "unipc"])
def test_a_picture_does_not_depend_on_its_neighbours(solver: str) -> None:
    pipe = shared(solver)
    batch = latents(pipe, [ONE, TWO], num_images_per_prompt=2, generator=seeds(1, 2, 3, 4), max_rows=3)
    alone = latents(pipe, TWO, generator=seeds(4))
    assert torch.allclose(batch[3], alone[0], atol=2e-3)  # of latents of size 10
    assert not torch.allclose(batch[2], batch[3], atol=1e-1)


def test_one_generator_draws_the_noise_of_the_whole_batch_at_once() -> None:
    noise = torch.randn(2, 4, 8, 8, generator=seeds(7)[0])
    images = latents(shared(), TWO, num_images_per_prompt=2, generator=seeds(7)[0])
    assert torch.equal(images, latents(shared(), TWO, num_images_per_prompt=2, latents=noise))


def test_instances_count_by_all_that_is_said_of_them() -> None:
    plain = latents(shared(), TWO)
    for formats in ((), ("box",), ("mask", "outline"), ("scribble",), ("point",)):
        assert not torch.allclose(plain, latents(shared(), TWO, formats=formats), atol=1e-3)
    assert not torch.allclose(plain, latents(shared(), TWO, alpha=0.2), atol=1e-3)
    assert not torch.allclose(plain, latents(shared(), TWO, mis=0.0), atol=1e-3)
    assert not torch.allclose(plain, latents(shared(), TWO, negative_prompt=""), atol=1e-3)
    assert not torch.allclose(plain, latents(shared(), TWO, merge="regions"), atol=1e-3)
    masked = [latents(shared(), TWO, masked_attention=how) for how in (True, "finest")]
    assert not torch.allclose(plain, masked[0], atol=1e-3)
    assert not torch.allclose(plain, masked[1], atol=1e-3)
    assert not torch.allclose(masked[0], masked[1], atol=1e-3)


def test_unifusion_runs_once_for_a_layout_and_once_for_nothing() -> None:
    layout = Layout(key="k", prompt="p", instances=(CAT, DOG, CAT, DOG))
    with counted(shared()) as rows:
        latents(shared(), layout, num_inference_steps=50, mis=0.36, num_images_per_prompt=2, generator=seeds(0, 1))
    assert rows == [5, 1]  # the layout and its four instances; nothing


def test_without_formats_the_text_alone_is_drawn() -> None:
    pipe = shared("dpm")
    images = latents(pipe, TWO, formats=())
    assert torch.equal(images, latents(pipe, TWO.prompt, formats=()))
    with counted(pipe) as rows:
        batch = latents(pipe, [ONE, TWO], formats=(), num_images_per_prompt=2, generator=seeds(1, 2, 3, 4))
    assert rows == []
    for number, layout in ((1, ONE), (2, TWO)):
        alone = latents(pipe, layout.prompt, generator=seeds(number + 1), formats=())
        assert torch.allclose(batch[number], alone[0], atol=2e-3)


@given(st.lists(st.sets(st.sampled_from(["box", "point", "scribble", "mask"])), max_size=4))
@settings(max_examples=8, deadline=None)
def test_any_mix_of_formats_gives_a_picture(mix: list[set[str]]) -> None:
    full = DOG.model_copy(update={"box": CAT.box, "point": CAT.point})
    without = [{name: None for name in ("box", "point", "scribble", "mask") if name not in formats} for formats in mix]
    instances = tuple(full.model_copy(update=dropped) for dropped in without)
    layout = Layout(key="k", prompt="a scene", instances=instances)
    images = latents(shared(), layout, num_inference_steps=2, masked_attention=len(mix) % 2 == 0)
    assert images.isfinite().all()


def test_thirty_instances_are_drawn_and_one_more_is_too_many() -> None:
    thirty = Layout(key="k", prompt="a crowd", instances=tuple([CAT, DOG] * 15))
    picture = shared()(thirty, num_inference_steps=2, mis=0.5, max_rows=8).images[0]
    assert picture.size == (16, 16)
    with pytest.raises(ValueError, match="31 instances, but the model has slots for 30"):
        shared()(thirty.model_copy(update={"instances": (*thirty.instances, CAT)}))


@pytest.mark.parametrize("kind", [UniPCMultistepScheduler, EulerDiscreteScheduler, DDIMScheduler])
def test_any_scheduler_that_draws_no_noise_will_do(kind: Any) -> None:
    pipe = build()
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    assert latents(pipe, TWO).isfinite().all()


def test_a_scheduler_that_draws_noise_on_the_way_is_refused() -> None:
    pipe = build()
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(ValueError, match="EulerAncestralDiscreteScheduler draws noise on the way"):
        latents(pipe, TWO)


@pytest.mark.parametrize("solver", ["plms", "dpm", "unipc"])
def test_a_picture_to_start_from_is_kept_where_little_is_drawn_anew(solver: str) -> None:
    pipe = shared(solver)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8))
    options = {"image": picture, "num_inference_steps": 50, "mis": 0.36}
    nearest = latents(pipe, TWO, strength=0.02, guidance_scale=1.0, **options)
    encoded = pipe._encode(picture, nearest)
    near, far = (latents(pipe, TWO, strength=strength, **options) for strength in (0.1, 1.0))
    assert (nearest - encoded).abs().max() < 0.5
    assert (near - encoded).norm() < (far - encoded).norm()
    assert torch.equal(near, latents(pipe, TWO, strength=0.1, **options))  # the same noise again


def test_a_whole_pipeline_comes_back_from_its_folder(tmp_path: Path) -> None:
    shared("dpm").save_pretrained(tmp_path)
    again = InstanceDiffusionPipeline.from_pretrained(tmp_path)
    assert torch.allclose(latents(again, TWO), latents(shared("dpm"), TWO), atol=5e-3)  # aligned otherwise in memory


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_the_whole(dtype: torch.dtype) -> None:
    pipe = build().to(dtype)
    assert pipe(TWO, num_inference_steps=3, generator=seeds(0)[0]).images[0].size == (16, 16)
    exact, half = latents(shared(), TWO, guidance_scale=2.0), latents(pipe, TWO, guidance_scale=2.0)
    assert (exact - half).norm() < 0.1 * exact.norm()


def test_a_compiled_network_draws_the_same() -> None:
    pipe = build()
    pipe.unet.compile(backend="eager")
    assert torch.allclose(latents(pipe, TWO, alpha=0.5), latents(shared(), TWO, alpha=0.5), atol=1e-4)


def test_lora_weights_change_the_picture_and_come_back_from_their_file(tmp_path: Path) -> None:
    pipe = build()
    pipe.unet.add_adapter(
        LoraConfig(r=2, lora_alpha=2, init_lora_weights=False, target_modules=["attn2.to_q", "attn2.to_v"])
    )
    changed = latents(pipe, TWO)
    layers = {name: value for name, value in pipe.unet.state_dict().items() if "lora_" in name}
    named = {name.replace(".default", ""): value for name, value in layers.items()}
    StableDiffusionPipeline.save_lora_weights(tmp_path, unet_lora_layers=named)
    again = build()
    again.load_lora_weights(tmp_path)
    assert torch.allclose(latents(again, TWO), changed, atol=1e-5)
    again.unload_lora_weights()
    assert torch.allclose(latents(again, TWO), latents(shared(), TWO), atol=1e-5)
    assert not torch.allclose(changed, latents(shared(), TWO), atol=1e-2)


def refiner() -> StableDiffusionXLImg2ImgPipeline:
    """The SDXL refiner's classes, small."""
    torch.manual_seed(1)
    _, tokenizer = words()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=40,
        projection_dim=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    unet = UNet2DConditionModel(
        **{k: v for k, v in base().config.items() if not k.startswith("_")}
        | {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 8 * 5 + 16,
        }
    )
    return StableDiffusionXLImg2ImgPipeline(
        vae=AutoencoderKL.from_config(vae().config),
        text_encoder=None,
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=None,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
    )


def test_a_refiner_goes_over_the_pictures_as_strongly_as_told() -> None:
    cascade = refiner()
    cascade.set_progress_bar_config(disable=True)
    plain, same, changed = (
        np.asarray(
            shared()(TWO, num_inference_steps=2, generator=seeds(0)[0], refiner=cascade, cascade_strength=strength)
            .images[0]
            .resize((16, 16)),
            dtype=float,
        )
        for strength in (0.0, 0.0, 0.5)
    )
    assert np.array_equal(plain, same)
    assert np.abs(plain - changed).mean() > 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"generator": seeds(0, 1)}, "2 generators for 1 pictures"),
        ({"height": 15}, "must be multiples of 2"),
        ({"width": 15}, "height 16 and width 15 must be multiples of 2"),
        ({"height": -2}, "must be multiples of 2"),
        ({"latents": torch.zeros(1, 3, 8, 8)}, "latents are"),
        ({"image": [Image.new("RGB", (16, 16))] * 2}, "2 images to start from for 1 pictures"),
        ({"reuse": 0}, "reuse 0"),
        ({"latents": torch.zeros(2, 4, 8, 8)}, "latents are"),
        ({"alpha": 1.5}, "must lie in 0..1"),
        ({"mis": -0.1}, "must lie in 0..1"),
        ({"strength": 0.0}, "strength 0.0"),
        ({"formats": ("boxes",)}, "unknown formats"),
        ({"num_inference_steps": 0}, "0 steps"),
    ],
)
def test_what_does_not_fit_is_one_sentence(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        latents(shared(), TWO, **options)


def test_pictures_of_any_size_are_drawn() -> None:
    for masked in (False, True):
        picture = shared()(TWO, num_inference_steps=2, height=24, width=32, masked_attention=masked).images[0]
        assert picture.size == (32, 24)


def test_the_released_numbers_come_under_their_own_setting() -> None:
    both = shared().conditions([TWO]), shared().conditions([TWO], compat="reference")
    assert [bool(conditions.scribble_given_BN[0, 0]) for conditions in both] == [False, True]
    last = Layout(key="k", prompt="p", instances=(CAT, DOG))
    mean, released = (latents(shared(), last, mis=1.0, compat=compat) for compat in (None, "reference"))
    assert not torch.allclose(mean, released, atol=1e-2)
    assert set(FORMATS) == {"box", "point", "scribble", "outline", "mask"}
    assert multi_instance.num_separate_steps(50, 0.36) == 18


@pytest.mark.parametrize(("height", "width"), [(24, 16), (16, 24), (16, 16)])
def test_a_picture_to_start_from_is_brought_to_the_latents_shape_and_the_vaes_scale(height: int, width: int) -> None:
    pipe = shared()
    noise = torch.zeros(2, 4, height // pipe.scale, width // pipe.scale)
    levels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    pixels_BCHW = torch.from_numpy(levels).permute(2, 0, 1)[None].float() / 127.5 - 1
    expected = pipe.vae.encode(pixels_BCHW).latent_dist.mode() * pipe.vae.config.scaling_factor
    start_latents = pipe._encode(Image.fromarray(levels), noise)
    assert start_latents.shape == noise.shape
    assert torch.allclose(start_latents[1:], expected, atol=1e-5)
    assert pipe._encode(Image.new("L", (5, 9)), noise).shape == noise.shape


@pytest.mark.parametrize(("strength", "steps"), [(0.25, 1), (0.49, 1), (0.5, 2), (0.75, 3), (0.99, 3), (1.0, 4)])
def test_over_a_picture_the_share_of_the_steps_is_taken_rounded_down(strength: float, steps: int) -> None:
    taken: list[None] = []
    options = {"num_inference_steps": 4, "mis": 0.0, "after_step": lambda: taken.append(None)}
    latents(shared("dpm"), ONE, image=Image.new("RGB", (16, 16)), strength=strength, **options)
    assert len(taken) == steps


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.0001, 1e-9, 0.24])
def test_no_step_and_more_than_all_steps_are_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="strength"):
        latents(shared("dpm"), ONE, image=Image.new("RGB", (16, 16)), strength=strength, num_inference_steps=4)


@pytest.mark.parametrize(("steps", "allowed"), [(0, False), (1, True), (1000, True), (1001, False)])
@pytest.mark.parametrize("name", ["plms", "dpm"])
def test_there_are_from_one_step_to_as_many_as_the_schedule_has(name: str, steps: int, allowed: bool) -> None:
    if allowed:
        assert solver(scheduler(name), steps).num_steps == steps
    else:
        with pytest.raises(ValueError, match="there must be 1 to 1000"):
            solver(scheduler(name), steps)


@given(st.integers(1, 200), st.integers(0, 100))
def test_shares_of_steps_are_rounded_down(steps: int, percent: int) -> None:
    whole = int(steps * (percent / 100))
    assert multi_instance.num_separate_steps(steps, percent / 100) == whole <= steps * percent / 100
    assert guidance.gates(steps, percent / 100) == [1.0] * whole + [0.0] * (steps - whole)


def test_the_refiner_gets_each_picture_with_its_prompt_the_strength_and_noise_of_its_own() -> None:
    calls: list[dict[str, Any]] = []

    def refiner(**options: Any) -> SimpleNamespace:
        calls.append(options | {"generator": options["generator"].initial_seed()})
        return SimpleNamespace(images=[f"refined {options['prompt']}"])

    assert refined(refiner, ["A", "B"], ["a", "b"], 0.3) == ["refined a", "refined b"]
    same = {"strength": 0.3, "num_inference_steps": 20}
    assert calls == [
        {"prompt": "a", "image": "A", "generator": 0, **same},
        {"prompt": "b", "image": "B", "generator": 1, **same},
    ]


def test_the_pictures_go_to_the_refiner_with_their_prompts_and_come_back_in_the_form_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refinements: list[tuple[Any, ...]] = []
    monkeypatch.setattr(pipeline, "refined", lambda *of: refinements.append(of) or ["refined"])
    freed: list[None] = []
    monkeypatch.setattr(shared("dpm"), "maybe_free_model_hooks", lambda: freed.append(None))
    how = {"num_inference_steps": 1, "mis": 0.0, "num_images_per_prompt": 2, "refiner": "of SDXL"}
    (images,) = shared("dpm")([ONE, TWO], return_dict=False, **how)
    ((refiner, pictures, prompts, strength),) = refinements
    assert (refiner, prompts, strength) == ("of SDXL", [ONE.prompt, ONE.prompt, TWO.prompt, TWO.prompt], 0.35)
    assert [picture.size for picture in pictures] == [(16, 16)] * 4
    assert images == ["refined"]
    assert shared("dpm")(ONE, return_dict=False, output_type="latent", **how)[0].shape == (2, 4, 8, 8)
    assert len(refinements) == 1 and len(freed) == 2


@pytest.mark.parametrize(
    ("masked", "told"),
    [(False, (None, False)), (True, ((8, 12), False)), ("finest", ((8, 12), True))],
)
@pytest.mark.parametrize("compat", [None, "reference"])
def test_the_layers_and_the_pictures_are_told_what_is_masked_and_by_whose_rule(
    masked: bool | str, told: tuple[Any, bool], compat: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, grounded, rounded = shared("dpm"), [], []
    ground, pictures = pipe.unet.ground, pipeline.pixels.pictures
    monkeypatch.setattr(pipe.unet, "ground", lambda of, **how: grounded.append(how) or ground(of, **how))
    monkeypatch.setattr(pipeline.pixels, "pictures", lambda part, **how: rounded.append(how) or pictures(part, **how))
    pipe(ONE, num_inference_steps=1, mis=0.0, height=16, width=24, masked_attention=masked, compat=compat)
    assert grounded == [{"masked": told[0], "finest": told[1], "compat": compat}] * 2
    assert rounded == [{"rounded": compat is None}]


@torch.no_grad()
def test_pictures_are_decoded_in_parts_and_in_their_order() -> None:
    some = torch.randn(3, 4, 8, 8, generator=seeds(0)[0])
    whole = shared().vae.decode(some / shared().vae.config.scaling_factor).sample
    shares = (255 * (whole / 2 + 0.5).clamp(0, 1)).permute(0, 2, 3, 1).double().numpy()
    for compat, expected in ((None, shares.round()), ("reference", np.floor(shares))):
        decoded = np.stack(shared()._decode(some, 2, compat)).astype(float)
        assert np.mean(decoded == expected) > 0.99


@torch.no_grad()
def test_each_picture_starts_from_its_own() -> None:
    both = [Image.new("RGB", (16, 16), colour) for colour in ("white", "black")]
    noise = torch.zeros(2, 4, 8, 8)
    together = shared()._encode(both, noise)
    for row, picture in enumerate(both):
        assert torch.allclose(together[row], shared()._encode(picture, noise)[row], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, Size(16, 16, 10, 5, False)),
        ({"height": 24, "width": 32, "max_rows": 3}, Size(24, 32, 3, 5, False)),
        ({"mis": 0.0}, Size(16, 16, 4, 2, False)),
        ({"mis": 0.2, "guidance_scale": 1.0, "num_images_per_prompt": 2}, Size(16, 16, 10, 10, False)),
        ({"masked_attention": True, "image": Image.new("RGB", (16, 16)), "strength": 0.5}, Size(16, 16, 4, 2, True)),
        ({"masked_attention": True, "formats": ()}, Size(16, 16, 4, 2, False)),
    ],
)
def test_what_is_drawn_at_once_is_held_to_what_is_free_on_its_device(
    options: dict[str, Any], size: Size, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[tuple[Any, ...]] = []
    monkeypatch.setattr(pipeline.memory, "refuse_too_large", lambda *of: checks.append(of))
    latents(shared(), [ONE, TWO], **options)
    unet, autoencoder = shared().unet.config, shared().vae.config
    assert checks == [(unet, autoencoder, size, torch.device("cpu"), 4)]


def copied() -> InstanceDiffusionPipeline:
    pipe = shared()
    parts = [copy.deepcopy(getattr(pipe, name)) for name in ("vae", "text_encoder", "unet")]
    return InstanceDiffusionPipeline(parts[0], parts[1], pipe.tokenizer, parts[2], pipe.scheduler)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_latents_that_are_not_finite_are_an_error_that_names_the_precision(precision: str) -> None:
    pipe = copied().to(getattr(torch, precision))
    with torch.no_grad():
        pipe.unet.conv_out.bias[0] = float("nan")
    with pytest.raises(ValueError, match=f"1 of 1 latents hold NaN or infinity, computed in {precision}"):
        pipe("a cat", num_inference_steps=1, output_type="latent")


def overflowing() -> InstanceDiffusionPipeline:
    """Its decoder exceeds half precision between the last norm and the last convolution."""
    pipe = copied()
    with torch.no_grad():
        for weight in pipe.vae.decoder.conv_norm_out.parameters():
            weight.mul_(2**15)
        pipe.vae.decoder.conv_out.weight.div_(2**15)
    return pipe


def test_an_autoencoder_that_overflows_half_precision_decodes_in_float32_and_says_so() -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = overflowing()
    half = overflowing()
    half.vae.to(torch.float16)
    expected = np.stack(whole._decode(latents, 4, None)).astype(float)
    with pytest.warns(UserWarning, match=r"overflows float16: 2 of 2 pictures are computed in float32"):
        pictures = half._decode(latents, 4, None)
    assert np.abs(np.stack(pictures) - expected).max() <= 8
    assert half.vae.dtype == torch.float16


def test_pictures_that_are_not_finite_in_float32_are_an_error() -> None:
    pipe = copied()
    with torch.no_grad():
        pipe.vae.decoder.conv_out.bias[0] = float("inf")
    with pytest.raises(ValueError, match=r"1 of 1 pictures hold NaN or infinity, computed in float32"):
        pipe("a cat", num_inference_steps=1)
    pipe.vae.to(torch.float16)
    with (
        pytest.warns(UserWarning, match="overflows float16"),
        pytest.raises(ValueError, match="pictures hold NaN or infinity"),
    ):
        pipe("a cat", num_inference_steps=1)


@pytest.mark.parametrize("name", ["plms", "dpm", "unipc"])
def test_a_base_that_predicts_velocity_is_led_where_one_that_predicts_noise_is(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    clean, start = torch.randn(2, 1, 4, 8, 8, generator=generator, dtype=torch.float64).unbind()
    signal = alphas_cumprod().double()

    def noise(x: torch.Tensor, timestep: torch.Tensor | float, _: float) -> torch.Tensor:
        share = signal[int(timestep)]
        return (x - share.sqrt() * clean * x.tanh()) / (1 - share).sqrt()

    def velocity(x: torch.Tensor, timestep: torch.Tensor | float, gate: float) -> torch.Tensor:
        share = signal[int(timestep)]
        here = noise(x, timestep, gate)
        return share.sqrt() * here - (1 - share).sqrt() * (x - (1 - share).sqrt() * here) / share.sqrt()

    ends = []
    for denoise, prediction in ((noise, "epsilon"), (velocity, "v_prediction")):
        steps = solver(scheduler(name, prediction), 8)
        x, state = steps.start(start)
        for index in range(steps.num_steps):
            x, state = steps.step(denoise, x, index, 1.0, state)
        ends.append(x)
    assert torch.allclose(ends[0], ends[1], atol=1e-3), (ends[0] - ends[1]).abs().max()
    assert not torch.allclose(ends[0], start, atol=1e-1)


def test_a_base_that_predicts_anything_else_is_refused() -> None:
    other = PNDMScheduler.from_config({**scheduler("plms").config, "prediction_type": "sample"})
    with pytest.raises(ValueError, match="prediction_type is 'sample', only epsilon and v_prediction are supported"):
        solver(other, 8)
