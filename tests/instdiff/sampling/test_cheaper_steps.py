"""Laws of what is cheaper and not exact, and of what is padded, on networks small enough to draw in milliseconds."""

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from diffusers import LCMScheduler
from tiny_pipeline import shared
from torch import Tensor

from instdiff.model import unifusion
from instdiff.sampling.few_steps import Lcm
from instdiff.sampling.guidance import guided_steps, padded_size
from instdiff.sampling.solvers import scheduler, solver
from instdiff.schema import Box, Instance, Layout

INSTANCES = (Instance(phrase="a red ring", box=Box(0.1, 0.1, 0.6, 0.7)), Instance(phrase="a blue disc"))
TWO = Layout(key="two", prompt="a red ring and a blue disc", instances=INSTANCES)
ONE = TWO.model_copy(update={"key": "one", "instances": INSTANCES[:1]})


def latents(layouts: Any, solver: str = "dpm", **options: Any) -> Tensor:
    count = len(layouts) if isinstance(layouts, list) else 1
    noise = torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    options = {"num_inference_steps": 6, "mis": 0.5, "latents": noise, "output_type": "latent"} | options
    images: Tensor = shared(solver)(layouts, **options).images
    return images


def rows_of(layouts: Any, **options: Any) -> list[int]:
    """Rows of each pass through the deepest block."""
    passes: list[int] = []
    pipe = shared("dpm")
    handle = pipe.unet.mid_block.register_forward_hook(lambda _, inputs, __: passes.append(len(inputs[0])))
    latents(layouts, **options)
    handle.remove()
    return passes


def test_outside_the_interval_only_the_layout_is_evaluated() -> None:
    assert rows_of(TWO, mis=0.0) == [2] * 6
    assert rows_of(TWO, mis=0.0, guidance_interval=(1 / 3, 2 / 3)) == [1, 1, 2, 2, 1, 1]
    assert not torch.allclose(latents(TWO), latents(TWO, guidance_interval=(0.0, 0.5)), atol=1e-3)
    assert torch.equal(latents(TWO), latents(TWO, guidance_interval=(0.0, 1.0)))
    assert guided_steps(10, (0.2, 0.5)) == range(2, 5)
    assert guided_steps(10, (0.26, 0.77)) == range(3, 8)
    assert guided_steps(10, (0.0, 1.0)) is None
    assert [guided_steps(10, ends) for ends in ((0.0, 0.9), (0.1, 1.0))] == [range(9), range(1, 10)]
    for interval in ((0.5, 0.5), (0.6, 0.5), (-0.1, 0.5), (0.5, 1.1)):
        with pytest.raises(ValueError, match="two rising shares"):
            latents(TWO, guidance_interval=interval)


def test_deep_levels_are_evaluated_in_every_kth_step_and_where_rows_change() -> None:
    assert rows_of(TWO, mis=0.0, reuse=2) == [2] * 3
    assert rows_of(TWO, mis=0.5, reuse=4, max_rows=16) == [6, 2, 2]  # apart; together, and in step 4
    assert not torch.allclose(latents(TWO), latents(TWO, reuse=2), atol=1e-3)
    assert torch.equal(latents(TWO, reuse=1), latents(TWO))


def test_rows_of_a_picture_that_begin_with_the_same_noise_share_what_no_words_say_of_it() -> None:
    assert rows_of(TWO) == [3 + 1, 3 + 3, 3 + 3, 2, 2, 2]  # the picture and its two instances apart for three steps
    assert rows_of([ONE, TWO]) == [5 + 2, 5 + 5, 5 + 5, 4, 4, 4]
    assert rows_of(TWO, guidance_scale=1.0) == [3, 3, 3, 1, 1, 1]
    assert rows_of(TWO, mis=0.0) == [2] * 6
    assert rows_of(TWO, max_rows=3) == [3, 1, 3, 3, 3, 3, 2, 2, 2]


def test_a_shallow_pass_on_features_of_the_same_step_is_the_full_one() -> None:
    unet = shared("dpm").unet
    latents_and_step, text = (torch.randn(2, 4, 8, 8), torch.tensor(500)), torch.randn(2, 7, 16)
    with torch.no_grad():
        cached = unet.with_cached_keys(torch.randn(2, 7, 16), unet.ground(shared("dpm").conditions([ONE, TWO])))
        noises = []
        for of_layout in ((text,), (text, cached.grounding), (text, None, cached.keys)):
            inputs = (*latents_and_step, *of_layout)
            noise, deep = unet.with_deep_features(*inputs)
            assert torch.allclose(unet.shallow(*inputs, deep=deep), noise, atol=1e-6)
            assert torch.equal(noise, unet(*inputs).sample)
            noises.append(noise)
            if len(noises) > 1:
                without = unet.shallow(*inputs[:3], deep=deep)
                assert not torch.allclose(without, noise, atol=1e-3)


def test_padded_passes_have_few_sizes_and_change_no_picture() -> None:
    assert {padded_size(count, 62) for count in range(1, 63)} == {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 62}
    pipe, exact = shared("dpm"), latents([ONE, TWO, TWO])
    pipe.padded = True
    try:
        sizes: set[int] = set()
        handle = pipe.unet.conv_in.register_forward_hook(lambda _, inputs, __: sizes.add(len(inputs[0])))
        assert torch.allclose(latents([ONE, TWO, TWO]), exact, atol=1e-3)  # of latents of size 10
        handle.remove()
    finally:
        pipe.padded = False
    assert sizes <= {1, 2, 3, 4, 6, 8, 12, 16}


def test_tokens_are_the_same_whether_rows_are_counted_first_or_not() -> None:
    pipe = shared("dpm")
    conditions = pipe.conditions([ONE, TWO])
    with patch.object(unifusion, "counts_first", lambda _: False), torch.no_grad():
        every = pipe.unet.unifusion(conditions)
    with torch.no_grad():
        assert torch.allclose(pipe.unet.unifusion(conditions), every, atol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_few_steps_are_those_of_diffusers(prediction: Any) -> None:
    theirs: Any = LCMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction
    )
    theirs.set_timesteps(4)
    fresh = torch.randn(3, 2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    ours = replace(Lcm.of(4, theirs.alphas_cumprod, prediction), noise_SRCHW=fresh)
    assert ours.timesteps == tuple(theirs.timesteps.tolist())
    x = y = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    for index, timestep in enumerate(theirs.timesteps):
        noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(index))
        with patch("diffusers.schedulers.scheduling_lcm.randn_tensor", lambda *_, **__: fresh[index]):  # noqa: B023
            x = theirs.step(noise, timestep, x, return_dict=False)[0]
        y, _ = ours.step(lambda *_: noise, y, index, 1.0, None)  # noqa: B023
    assert torch.allclose(x, y, atol=1e-5)


def test_a_picture_of_few_steps_does_not_depend_on_its_neighbours() -> None:
    def noise(rows: list[int]) -> Any:
        return lambda step: torch.stack(
            [torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(10 * row + step)) for row in rows]
        )

    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    few = {"num_inference_steps": 4, "guidance_scale": 1.5}
    both = latents([ONE, TWO], "lcm", latents=start, step_noise=noise([0, 1]), **few)
    alone = latents(TWO, "lcm", latents=start[1:], step_noise=noise([1]), **few)
    assert torch.allclose(both[1], alone[0], atol=2e-3)
    assert not torch.allclose(alone, latents(TWO, "lcm", latents=start[1:], step_noise=noise([2]), **few), atol=1e-2)


def test_noise_of_steps_goes_with_the_solver_of_few_steps_alone() -> None:
    with pytest.raises(ValueError, match="lcm adds noise"):
        latents(TWO, "lcm")
    with pytest.raises(ValueError, match="step_noise is for solvers"):
        latents(TWO, step_noise=lambda _: torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="at most 50"):
        solver(scheduler("lcm"), 51)
    assert solver(scheduler("lcm"), 50).num_steps == 50
