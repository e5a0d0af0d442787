"""What is learned depends on the recipe alone: not on where samples lie, who computes, or how often it was killed."""

import math
import random
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tiny_encoders
import torch
import train_world as world
import yaml
from eval_world import DETECT
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load
from torch import nn

from instdiff.checkpoints import official as checkpoint
from instdiff.config import compose
from instdiff.data import from_shards, shards
from instdiff.data import source as source_data
from instdiff.data.batches import Batch, Batches, Recipe
from instdiff.data.from_pictures import Encoders
from instdiff.data.from_shards import FromShards, ShardIndex, ShardSet, Store
from instdiff.data.index import INDEX_FILE
from instdiff.data.samples import fitting, gathered
from instdiff.files import recipes
from instdiff.model.conditions import Conditions
from instdiff.model.grounding import Grounding
from instdiff.model.noise_schedule import eps_loss, uniform_timesteps
from instdiff.networks.finders.choice import Choice
from instdiff.schema import Box, Instance, Layout
from instdiff.training import accelerated as engines
from instdiff.training import fsdp, train
from instdiff.training.fsdp import engine
from instdiff.training.initial_weights import Lora, Start, merge, start
from instdiff.training.loop import Diverged, Training, advance
from instdiff.training.probe import Models, ProbeParams

SHIPPED = Path(__file__).parents[3] / "weights" / "miniature"
ENCODERS = Encoders(Path("text"), Path("vae"))  # that no test here reads
ROUNDING = 2e-5  # of weights that moved by hundredths in six steps, their gradients summed in another order


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    world.made(folder)
    return folder


@pytest.fixture(scope="module")
def whole(root: Path) -> bytes:
    """The weights of the run that every other is compared with."""
    return world.trained(root, root / "whole")


@pytest.fixture(autouse=True)
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    world.forget_processes()


def furthest(weights: bytes, other: bytes) -> float:
    ours, theirs = load(weights), load(other)
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


def batches(root: Path, **changes: object) -> Batches:
    params = world.changed(**changes)
    stores = source_data.stores(root / "shards", root / "embeddings", params.data)
    return Batches(source_data.samples(stores, ENCODERS, params, CPU), params, **ONE)


def here(root: Path) -> list[ShardSet]:
    return [ShardSet(Store(root / "shards"), Store(root / "embeddings"))]


CPU = torch.device("cpu")
ONE = {"seed": 5, "rank": 0, "num_processes": 1, "accumulate": 1, "held_out": 0}


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_that_stay_in_the_shards_teach_the_same(root: Path, tmp_path: Path, whole: bytes, workers: int) -> None:
    data = {"source": "shards", "workers": workers}
    assert world.trained(root, tmp_path / "out", world.changed(data=data)) == whole


def test_a_store_that_fsspec_knows_teaches_the_same(root: Path, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("shards", "embeddings"):
        memory.put(str(root / name), f"/bucket/{name}", recursive=True)
    stores = [Store(tmp_path / name, f"memory://bucket/{name}") for name in ("shards", "embeddings")]
    far = FromShards([ShardSet(*stores)], world.PARAMS.unifusion, None)
    near = source_data.samples(here(root), ENCODERS, world.PARAMS, CPU)
    chosen, mirrored = torch.tensor([9, 0, 3]), torch.tensor([True, False, True])
    ours, theirs = far.gather(chosen, mirrored), near.gather(chosen, mirrored)
    assert torch.equal(ours.latent_mean_BChw, theirs.latent_mean_BChw)
    assert torch.equal(ours.category_BND, theirs.category_BND)
    assert torch.equal(ours.conditions.scribble_BNS, theirs.conditions.scribble_BNS)


def test_copies_make_room_for_others_and_come_again(root: Path, tmp_path: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").put(str(root / "shards"), "/small/shards", recursive=True)
    sizes = sorted(path.stat().st_size for path in (root / "shards").glob("*.tar"))
    limit = (
        (root / "shards" / INDEX_FILE).stat().st_size + sizes[-1] + sizes[-2]
    )  # the index and any two of five shards
    store = Store(tmp_path / "copies/shards", "memory://small/shards", limit)
    far, near = ShardIndex([ShardSet(store, store)]), ShardIndex(here(root))
    name = [near.indices[0].row(number)["shard"] for number in range(10)]
    for number in (0, 2, 4, 6, 8, 0, 1, 9, 4):
        assert far.sample(number).picture == near.sample(number).picture
        files = list((tmp_path / "copies").rglob("*.*"))
        assert sum(path.stat().st_size for path in files) <= limit
    assert {path.name for path in files} == {INDEX_FILE, name[9], name[4]}  # the last two of use
    removed = []

    def use(path: Path) -> bytes:
        if not removed:
            removed.append(path.unlink())  # by another process, between the look and the reading
        return path.read_bytes()

    assert store.read(name[4], use) == (root / "shards" / name[4]).read_bytes()
    with pytest.raises(ValueError, match=r"small/shards/.*tar: \d+ bytes, and train.data.copies_limit is 10"):
        Store(tmp_path / "none/shards", "memory://small/shards", 10).path(name[0])


@pytest.mark.parametrize(("spare", "num_copies"), [(0, 2), (-1, 1), (1, 2)])
def test_copies_fill_the_limit_exactly_before_any_goes(
    tmp_path: Path, spare: int, num_copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("a", "b"):
        memory.pipe(f"/exact/shards/{name}", b"12345")
    store = Store(tmp_path / "copies/shards", "memory://exact/shards", 10 + spare)
    for name in ("a", "b"):
        assert store.path(name).read_bytes() == b"12345"
    assert len(list((tmp_path / "copies/shards").iterdir())) == num_copies
    assert Store(tmp_path / "whole", "memory://exact/shards", 5).path("a").is_file()
    with pytest.raises(ValueError, match="5 bytes, and train.data.copies_limit is 4"):
        Store(tmp_path / "less", "memory://exact/shards", 4).path("a")


@pytest.mark.parametrize("most", [1, 2, 5])
def test_with_more_shards_than_open_files_samples_are_the_same_and_no_more_are_open(
    root: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(from_shards, "OPEN_FILES", most)
    stores = Store(root / "shards"), Store(root / "embeddings")
    far = FromShards([ShardSet(*stores)], world.PARAMS.unifusion, None)
    near = source_data.in_memory([ShardSet(*stores)], world.PARAMS.unifusion, None)
    assert len(far.indices[0].shards) == 5
    draw = np.random.default_rng(0)
    for _ in range(6):
        chosen, mirrored = torch.from_numpy(draw.integers(10, size=7)), torch.from_numpy(draw.random(7) < 0.5)
        ours, theirs = far.gather(chosen, mirrored), near.gather(chosen, mirrored)
        for name in ("latent_mean_BChw", "latent_std_BChw", "prompt_BLD", "category_BND"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
        assert torch.equal(ours.conditions.text_BND, theirs.conditions.text_BND)
        assert torch.equal(ours.conditions.box_BN4, theirs.conditions.box_BN4)
        assert len(far.open) <= most


def test_the_file_that_is_closed_is_the_one_used_longest_ago(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_shards, "OPEN_FILES", 2)
    far = FromShards(here(root), world.PARAMS.unifusion, None)
    for sample in (0, 2, 1, 4):  # of shards 0, 1, 0, 2
        far.gather(torch.tensor([sample]), torch.tensor([False]))
    assert list(far.open) == [(0, 0), (0, 2)]


areas = st.lists(st.one_of(st.none(), st.integers(0, 8)), max_size=6)


@given(areas, st.integers(1, 4))
def test_of_more_instances_than_slots_none_left_out_has_a_larger_box(sides: list[int | None], slots: int) -> None:
    boxes = [None if side is None else Box(0, 0, side / 8, 0.5) for side in sides]
    layout = Layout(key="k", prompt="", instances=tuple(Instance(phrase="a", box=box) for box in boxes))
    shown = fitting(layout, slots)
    assert len(set(shown)) == len(shown) == min(slots, len(sides))
    if len(sides) <= slots:
        assert shown == list(range(len(sides)))
    sizes = [0.0 if box is None else box.area for box in boxes]
    left_out = [size for place, size in enumerate(sizes) if place not in shown]
    assert all(sizes[place] >= size for place in shown for size in left_out)


@pytest.mark.parametrize("kind", ["memory", "shards"])
def test_of_more_instances_than_slots_boxes_captions_and_categories_are_those_of_the_largest(
    root: Path, kind: str
) -> None:
    few = world.changed(unifusion={"max_instances": 2}, data={"source": kind})
    source = source_data.samples(here(root), ENCODERS, few, CPU)
    layouts = [sample.layout for sample in shards.read(root / "shards")]
    assert any(len(layout.instances) > 2 for layout in layouts)
    every = source_data.samples(here(root), ENCODERS, world.PARAMS, CPU)
    numbers, plain = torch.arange(10), torch.zeros(10, dtype=torch.bool)
    ours, whole = source.gather(numbers, plain), every.gather(numbers, plain)
    for row, layout in enumerate(layouts):
        largest = sorted(range(len(layout.instances)), key=lambda place: -layout.instances[place].box.area)[:2]
        largest = largest if len(layout.instances) > 2 else sorted(largest)
        for slot, place in enumerate(largest):
            for mine, theirs in (
                (ours.conditions.box_BN4, whole.conditions.box_BN4),
                (ours.conditions.text_BND, whole.conditions.text_BND),
                (ours.category_BND, whole.category_BND),
            ):
                assert torch.equal(mine[row, slot], theirs[row, place]), (row, slot)


def test_a_layout_without_instances_has_zeros_for_categories_and_nothing_filled() -> None:
    config = world.PARAMS.unifusion
    bare, single = (
        Layout(key="k", prompt="", instances=()),
        Layout(key="l", prompt="", instances=(Instance(phrase="a"),)),
    )
    features, plain = [torch.zeros(0, 8), torch.ones(1, 8)], torch.zeros(2, dtype=torch.bool)
    latents, prompts = (torch.zeros(2, 4, 8, 8),) * 2, torch.zeros(2, 5, 16)
    batch = gathered([bare, single], features, features, latents, prompts, plain, config, None)
    assert batch.conditions.filled_BN.sum(1).tolist() == [0, 1]
    assert batch.category_BND.shape == batch.conditions.text_BND.shape
    assert batch.category_BND.sum().item() == 8


@pytest.mark.parametrize("other", [{"seed": 6}, {"step": 1}, {"epoch": True}])
def test_batches_that_differ_in_seed_or_step_alone_differ_in_all_that_is_drawn(
    root: Path, other: dict[str, int]
) -> None:
    series = batches(root, order="anywhere")
    there = Batches(series.source, series.recipe, **ONE | {"seed": other.get("seed", 5)})
    here, elsewhere = series[0], there[2 if "epoch" in other else other.get("step", 0)]
    for name in ("latents_BChw", "noise_BChw", "timesteps_B"):
        assert not torch.equal(getattr(here, name), getattr(elsewhere, name)), name
    again = Batches(series.source, series.recipe, **ONE)[0]
    assert torch.equal(again.noise_BChw, here.noise_BChw)
    assert torch.equal(again.latents_BChw, here.latents_BChw)


def test_the_share_of_mirrored_samples_is_the_recipes_and_shows_the_second_view(root: Path) -> None:
    embedded = source_data.in_memory(here(root), world.PARAMS.unifusion, None)
    for share in (0.0, 1.0):
        series = batches(root, mirror=share, latent_spread=0.0)
        view = (embedded.stored, embedded.mirrored)[int(share)].latent_mean_BChw
        for step in range(2):
            for latents in series[step].latents_BChw:
                assert any(torch.equal(latents, stored) for stored in view)
    mixed = torch.cat([batches(root, mirror=0.25, latent_spread=0.0)[step].latents_BChw for step in range(40)])
    second = [any(torch.equal(latent, stored) for stored in embedded.mirrored.latent_mean_BChw) for latent in mixed]
    assert sum(second) / len(second) == pytest.approx(0.25, abs=0.1)


def test_latents_are_drawn_as_far_from_their_mean_as_the_spread_says(root: Path) -> None:
    mean, half, whole = (batches(root, latent_spread=spread)[0].latents_BChw for spread in (0.0, 0.5, 1.0))
    assert torch.allclose(2 * (half - mean), whole - mean, atol=1e-5)
    assert not torch.allclose(whole, mean, atol=0.1)
    assert not torch.equal((whole - mean)[0], (whole - mean)[1])


def test_timesteps_are_spread_over_the_batch_or_drawn_one_by_one(root: Path) -> None:
    for step in range(8):
        spread = batches(root)[step].timesteps_B
        assert (spread // 250).sort().values.tolist() == [0, 1, 2, 3]
    independent = [batches(root, timesteps="uniform")[step].timesteps_B for step in range(8)]
    assert any((timesteps // 250).sort().values.tolist() != [0, 1, 2, 3] for timesteps in independent)


@pytest.mark.parametrize("order", ["anywhere", "epochs"])
def test_samples_held_out_are_never_shown_and_all_others_are(root: Path, order: str) -> None:
    series = batches(root, order=order, latent_spread=0.0, mirror=0.0)
    held = Batches(series.source, series.recipe, **ONE | {"held_out": 3})
    stored = series.source.stored.latent_mean_BChw
    shown = {
        next(n for n, mean in enumerate(stored) if torch.equal(mean, latents))
        for step in range(30)
        for latents in held[step].latents_BChw
    }
    assert shown == set(range(7))


@pytest.mark.parametrize(("order", "held_out", "enough"), [
    ("epochs", 6, True), ("epochs", 7, False), ("anywhere", 9, True), ("anywhere", 10, False),
])  # fmt: skip
def test_there_must_be_a_batch_of_samples_for_an_epoch_and_one_otherwise(
    root: Path, order: str, held_out: int, enough: bool
) -> None:
    series = batches(root, order=order)
    if enough:
        Batches(series.source, series.recipe, **ONE | {"held_out": held_out})
    else:
        with pytest.raises(ValueError, match="samples to train on"):
            Batches(series.source, series.recipe, **ONE | {"held_out": held_out})


def test_the_shares_of_the_processes_are_equal_and_together_the_batch(root: Path) -> None:
    series = batches(root)
    for step in (0, 1, 4):
        batch = series[step]
        shares = [
            Batches(series.source, series.recipe, **ONE | {"rank": rank, "num_processes": 2, "accumulate": 2})[
                2 * step + part
            ]
            for part in (0, 1)
            for rank in (0, 1)
        ]
        assert [len(share.latents_BChw) for share in shares] == [1, 1, 1, 1]
        assert torch.equal(torch.cat([share.latents_BChw for share in shares]), batch.latents_BChw)
        assert torch.equal(torch.cat([share.timesteps_B for share in shares]), batch.timesteps_B)
        assert torch.equal(torch.cat([share.conditions.text_BND for share in shares]), batch.conditions.text_BND)


def test_a_batch_that_cannot_be_shared_equally_is_refused(root: Path) -> None:
    series = batches(root)
    with pytest.raises(ValueError, match="batch_size 4 cannot be shared equally by 3 processes"):
        Batches(series.source, series.recipe, **ONE | {"num_processes": 3})


def test_released_drops_are_one_draw_a_share_and_ours_one_a_sample(root: Path) -> None:
    odds = world.PARAMS.odds.model_copy(update=dict.fromkeys(world.PARAMS.odds.model_dump(), 0.0) | {"scribble": 0.5})
    kinds = {
        compat: [
            {bool(row.any()) for row in batches(root, odds=odds, compat=compat)[step].conditions.scribble_given_BN}
            for step in range(12)
        ]
        for compat in ("reference", None)
    }
    assert all(len(kinds_of_batch) == 1 for kinds_of_batch in kinds["reference"])
    assert any(len(kinds_of_batch) == 2 for kinds_of_batch in kinds[None])


def test_released_drops_are_a_draw_of_its_own_for_each_share_of_a_batch(root: Path) -> None:
    odds = world.PARAMS.odds.model_copy(update=dict.fromkeys(world.PARAMS.odds.model_dump(), 0.0) | {"scribble": 0.5})
    series = batches(root, odds=odds, compat="reference")
    halves = Batches(series.source, series.recipe, **ONE | {"accumulate": 2})
    kinds = [[set(halves[2 * step + part].conditions.scribble_given_BN.any(1).tolist()) for part in (0, 1)]
             for step in range(12)]  # fmt: skip
    assert all(len(half) == 1 for both in kinds for half in both)
    assert any(first != second for first, second in kinds)


def test_instances_are_told_by_caption_or_by_category_in_the_given_share(root: Path) -> None:
    everything = {"odds": world.PARAMS.odds.model_copy(update=dict.fromkeys(world.PARAMS.odds.model_dump(), 0.0))}
    captions, categories = (batches(root, instance_captions=share, **everything)[0] for share in (1.0, 0.0))
    mixed = batches(root, instance_captions=0.5, **everything)[0].conditions
    differs = (captions.conditions.text_BND != categories.conditions.text_BND).any(-1)
    assert differs[captions.conditions.filled_BN].all()
    by_caption = (mixed.text_BND == captions.conditions.text_BND).all(-1)[mixed.filled_BN]
    by_category = (mixed.text_BND == categories.conditions.text_BND).all(-1)[mixed.filled_BN]
    assert (by_caption ^ by_category).all()
    assert by_caption.any()
    assert by_category.any()


def test_prompts_are_dropped_in_the_given_share(root: Path) -> None:
    both = [batches(root, drop_caption=share, latent_spread=0.0)[0].prompts_BLD for share in (0.0, 1.0)]
    dropped = [(prompts == 0).all(-1).all(-1) for prompts in both]  # zeros stand for the empty text in this world
    assert not dropped[0].any()
    assert dropped[1].all()
    steps = [batches(root, drop_caption=0.3)[step].prompts_BLD for step in range(60)]
    assert float((torch.cat(steps) == 0).all(-1).all(-1).float().mean()) == pytest.approx(0.3, abs=0.1)


def test_min_snr_weighs_a_clean_sample_down_and_a_noisy_one_fully() -> None:
    noise = torch.zeros(2, 4, 2, 2)
    predicted = noise + torch.tensor([2.0, 1.0]).view(2, 1, 1, 1)
    steps = torch.tensor([0, 999])
    assert eps_loss(predicted, noise, steps, None).item() == pytest.approx((4 + 1) / 2)
    cleanest = (1 - 0.00085) / 0.00085  # the signal to noise ratio of step 0; that of step 999 is below 5
    assert eps_loss(predicted, noise, steps, 5.0).item() == pytest.approx((4 * 5 / cleanest + 1) / 2, rel=1e-3)


@pytest.mark.parametrize("name", ["default", "long", "paper", "small"])
def test_every_recipe_is_whole_and_of_known_values(name: str) -> None:
    values = yaml.safe_load(compose.composed([f"train={name}"], Path(__file__).parents[3] / "configs"))
    train.Params.model_validate(values["train"])


def test_uniform_timesteps_cover_the_schedule() -> None:
    timesteps = uniform_timesteps(4000, torch.Generator().manual_seed(0))
    assert 0 <= int(timesteps.min()) < 5
    assert 994 < int(timesteps.max()) < 1000
    assert np.histogram(timesteps, 10, (0, 1000))[0] == pytest.approx(400, abs=80)


@pytest.mark.parametrize("hardware", [{"accumulate": 2}, {"accumulate": 4}, {"checkpointing": True}])
def test_parts_and_checkpointing_change_nothing_but_rounding(
    root: Path, tmp_path: Path, whole: bytes, hardware: dict[str, object]
) -> None:
    assert furthest(world.trained(root, tmp_path / "out", world.changed(hardware=hardware)), whole) < ROUNDING


def test_bf16_trains_fp32_weights_to_nearly_the_same(root: Path, tmp_path: Path, whole: bytes) -> None:
    rounded = world.trained(root, tmp_path / "out", world.changed(hardware={"precision": "bf16"}))
    assert all(weight.dtype is torch.float32 for weight in load(rounded).values())
    assert 0 < furthest(rounded, whole) < 0.3


def test_two_processes_learn_what_one_does(root: Path, tmp_path: Path, whole: bytes) -> None:
    assert world.run(root, tmp_path / "two", processes=2) == [0, 0]
    assert furthest((tmp_path / "two/layers/instance_layers.safetensors").read_bytes(), whole) < ROUNDING


def test_two_processes_that_each_hold_a_part_learn_what_one_does_and_resume(root: Path, tmp_path: Path) -> None:
    weights = "layers/instance_layers.safetensors"
    clipped = {"clip": 0.05}  # far below the norms seen, so that every step is cut
    alone = world.trained(root, tmp_path / "one", world.changed(optimisation=clipped))
    cut = {"params": world.changed(optimisation=clipped, hardware={"parallel": "fsdp", "accumulate": 2})}
    assert world.run(root, tmp_path / "two", processes=2, **cut) == [0, 0]
    assert furthest((tmp_path / "two" / weights).read_bytes(), alone) < ROUNDING
    assert set(world.run(root, tmp_path / "killed", processes=2, killed_at=3, **cut)) == {-signal.SIGKILL}
    assert world.run(root, tmp_path / "killed", processes=2, **cut) == [0, 0]
    assert (tmp_path / "killed" / weights).read_bytes() == (tmp_path / "two" / weights).read_bytes()


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_see_in_their_probe_what_one_sees(root: Path, tmp_path: Path, parallel: str) -> None:
    tiny_encoders.write(tmp_path, world.WIDTH)
    judges = {"detector": SHIPPED / "detector", "judge": SHIPPED / "clip/judge"}
    plan = {"every": 2, "layouts": 2, "steps": 2, "guidance": 2.0, "finder": None, "min_score": 0.25, "patience": None}
    probe, models = ProbeParams(**plan), Models(tmp_path / "text", tmp_path / "vae", **judges)
    world.trained(root, tmp_path / "one", world.changed(probe=probe), models)
    cut = world.changed(probe=probe, hardware={"parallel": parallel})
    assert world.run(root, tmp_path / "two", processes=2, params=cut, models=models) == [0, 0]
    log_of_one, log_of_two = (pd.read_csv(tmp_path / name / "log.csv") for name in ("one", "two"))
    assert log_of_one["right_colour"].notna().all()
    pd.testing.assert_frame_equal(log_of_one, log_of_two, rtol=1e-3)


def test_a_run_belongs_to_what_its_probe_draws_and_judges_with(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs: list[tuple[object, ...]] = []
    monkeypatch.setattr(train.resume, "digest", lambda stage, params, *rest: inputs.append(rest) or 1 / 0)
    models = Models(*(tmp_path / name for name in Models._fields))
    probe = ProbeParams(every=2, layouts=2, steps=2, guidance=2.0, finder=None, min_score=0.25, patience=None)
    for params in (world.PARAMS, world.changed(probe=probe)):
        with pytest.raises(ZeroDivisionError):
            world.trained(root, tmp_path / "out", params, models)
    without, along = inputs
    assert along == (*without, *models)
    inputs.clear()
    finder = Choice(finder="owlv2", finders=DETECT.finders, phrases="own", marker=None)
    params = world.changed(probe=probe.model_copy(update={"finder": finder}))
    with pytest.raises(ZeroDivisionError):
        world.trained(root, tmp_path / "out", params, models)
    assert inputs == [(*without, *models, DETECT.finders.owlv2.weights)]


def test_what_is_no_number_on_one_process_ends_all_and_costs_nothing(root: Path, tmp_path: Path) -> None:
    weights = "layers/instance_layers.safetensors"
    assert world.run(root, tmp_path / "broken", processes=2, nan_at=3) == [1, 1]
    assert all("loss is nan at step 3" in (tmp_path / f"said-{n}.txt").read_text() for n in (0, 1))
    assert world.run(root, tmp_path / "broken", processes=2) == [0, 0]
    assert world.run(root, tmp_path / "expected", processes=2) == [0, 0]
    assert (tmp_path / "broken" / weights).read_bytes() == (tmp_path / "expected" / weights).read_bytes()


def test_a_full_disk_of_the_first_process_is_said_on_all_and_costs_nothing(root: Path, tmp_path: Path) -> None:
    assert world.run(root, tmp_path / "full", processes=2, full_at=4) == [1, 1]
    assert all("no space left at step 4" in (tmp_path / f"said-{n}.txt").read_text() for n in (0, 1))
    (checkpoint_left,) = tmp_path.glob("runs/*/checkpoint.pt")
    assert torch.load(checkpoint_left)["step"] == 3


def test_trackers_are_told_losses_and_pictures_and_one_that_is_not_installed_is_named(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    training_engine = world.engine(tmp_path, trackers=("tensorboard",))
    for step in (2, 4):
        training_engine.show(step, {"loss": 1 / step, "step_seconds": 0.5})
    training_engine.show_picture(4, np.zeros((8, 8, 3), dtype=np.uint8))
    training_engine.end()
    events = EventAccumulator(str(tmp_path / "trackers/instdiff"))
    events.Reload()
    assert [(row.step, row.value) for row in events.Scalars("loss")] == [(2, 0.5), (4, 0.25)]
    assert [row.step for row in events.Images("probe")] == [4]
    with pytest.raises(ValueError, match=r"trackers names wandb, which is not installed: `pip install wandb`"):
        world.engine(tmp_path, trackers=("tensorboard", "wandb"))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_killed_at_random_steps_ends_in_the_same_bits(root: Path, tmp_path: Path, processes: int) -> None:
    weights = "layers/instance_layers.safetensors"
    assert world.run(root, tmp_path / "expected", processes=processes) == [0] * processes
    for step in sorted(random.Random(processes).sample(range(6), 3)):
        assert set(world.run(root, tmp_path / "killed", processes=processes, killed_at=step)) == {-signal.SIGKILL}
    assert world.run(root, tmp_path / "killed", processes=processes) == [0] * processes
    assert (tmp_path / "killed" / weights).read_bytes() == (tmp_path / "expected" / weights).read_bytes()


def test_low_rank_training_changes_only_what_it_names_and_leaves_ordinary_layers(root: Path, tmp_path: Path) -> None:
    before = dict(world.instance_unet().state_dict())
    first = world.instance_unet()
    first.save_instance_layers(tmp_path / "first")
    lora = Start(kind="layers", weights=tmp_path / "first", lora=Lora(rank=2, alpha=2, dropout=0.1))
    after = load(world.trained(root, tmp_path / "out", world.changed(start=lora)))
    assert after.keys() == first.instance_layers().keys()
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert changed
    assert not any(name.startswith("unifusion.") or ".norm" in name or name.endswith(".bias") for name in changed)
    assert any("fuser.attn.to_q" in name for name in changed)


def test_layers_that_went_on_from_others_carry_the_recipe_of_these(root: Path, tmp_path: Path) -> None:
    world.trained(root, tmp_path / "first")
    first = recipes.read(tmp_path / "first")
    weights = load((tmp_path / "first/layers/instance_layers.safetensors").read_bytes())
    shown = 6 * 4  # steps, samples in each
    assert first["metrics"] == {"samples": shown, "parameters": sum(weight.numel() for weight in weights.values())}
    further = world.changed(start=Start(kind="layers", weights=tmp_path / "first" / "layers", lora=None))
    world.trained(root, tmp_path / "second", further)
    assert "before" not in first
    assert recipes.read(tmp_path / "second")["before"] == first


def test_a_run_belongs_to_the_bytes_that_it_starts_from(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "gligen.pth"
    params = world.changed(start=Start(kind="gligen", weights=weights, lora=None))
    belongs: list[str] = []
    monkeypatch.setattr(train.resume, "folder", lambda digest: belongs.append(digest) or 1 / 0)
    for content in (b"some", b"others", b"some"):
        weights.write_bytes(content)
        with pytest.raises(ZeroDivisionError):
            world.trained(root, tmp_path / "out", params)
    assert belongs[0] == belongs[2] != belongs[1]


@torch.no_grad()
def test_merging_low_rank_updates_does_not_change_what_is_computed(root: Path) -> None:
    unet, batch = world.instance_unet(), batches(root)[0]
    start(unet, Start(kind="fresh", weights=None, lora=Lora(rank=2, alpha=4, dropout=0.0)))
    draw = torch.Generator().manual_seed(0)
    for _, weight in unet.named_parameters():
        if weight.requires_grad:
            weight.normal_(0, 0.3, generator=draw)
    objective = train.Objective(unet, world.PARAMS, (8, 8))
    apart = objective(batch)
    merge(unet)
    assert not any("lora" in name for name in unet.state_dict())
    assert torch.allclose(objective(batch), apart, atol=1e-5)
    assert not torch.allclose(train.Objective(world.instance_unet(), world.PARAMS, (8, 8))(batch), apart, atol=1e-4)


def test_training_starts_from_gligens_fusers(tmp_path: Path) -> None:
    theirs, ours = world.instance_unet(), world.instance_unet()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(1)
    official = checkpoint.official(theirs)
    torch.save({"model": {**official, "position_net.linears.0.weight": torch.ones(3)}}, tmp_path / "gligen.pth")
    start(ours, Start(kind="gligen", weights=tmp_path / "gligen.pth", lora=None))
    for name, weight in ours.state_dict().items():
        assert torch.equal(weight, theirs.state_dict()[name]) == (".fuser." in name), name
    assert {name for name, w in ours.named_parameters() if w.requires_grad} == ours.instance_layers().keys()


def test_training_starts_from_the_released_weights(tmp_path: Path) -> None:
    theirs, ours = world.instance_unet(), world.instance_unet()
    with torch.no_grad():
        theirs.get_parameter("down_blocks.0.attentions.0.transformer_blocks.0.fuser.alpha_attn").fill_(0.5)
    checkpoint.write_official(theirs, tmp_path / "released.pth")
    start(ours, Start(kind="released", weights=tmp_path / "released.pth", lora=None))
    assert all(torch.equal(weight, theirs.state_dict()[name]) for name, weight in ours.state_dict().items())
    with pytest.raises(ValueError, match="needs train.start.weights"):
        start(ours, Start(kind="released", weights=None, lora=None))


def test_eight_bits_without_bitsandbytes_is_one_clear_sentence(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs bitsandbytes"):
        world.trained(root, tmp_path / "out", world.changed(hardware={"optimiser": "adamw_8bit"}))


def test_eight_bit_moments_are_asked_of_bitsandbytes_with_our_groups_and_betas(
    root: Path, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = SimpleNamespace(AdamW8bit=torch.optim.AdamW)  # whose moments have all their bits
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(optim=stand_in))
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", stand_in)
    assert world.trained(root, tmp_path / "out", world.changed(hardware={"optimiser": "adamw_8bit"})) == whole


def test_a_gradient_that_is_no_number_ends_a_training_whose_loss_nothing_scales(tmp_path: Path) -> None:
    training_engine, model, how = world.engine(tmp_path), nn.Linear(1, 1, bias=False), world.PARAMS.optimisation
    training_engine.prepare(model)
    training = Training(model, how, training_engine, tmp_path / "checkpoint.pt")
    before = model.weight.item()
    training_engine.load_state({"scaler": {"scale": 8.0}})  # of a run that had one
    with pytest.raises(Diverged, match="gradient's norm is inf at step 0; "):
        advance(training, lambda _: (model.weight - before).sqrt().sum(), how, 0)
    assert model.weight.item() == before


def test_a_step_that_overflows_is_skipped_and_the_scale_is_kept(tmp_path: Path) -> None:
    def scaled() -> tuple[nn.Linear, Training]:
        training_engine = world.engine(tmp_path)
        # as accelerate has it with fp16 on a GPU
        training_engine.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
        model = nn.Linear(1, 1, bias=False)
        training_engine.prepare(model)
        return model, Training(model, world.PARAMS.optimisation, training_engine, tmp_path / "checkpoint.pt")

    model, training = scaled()
    before = model.weight.item()
    advance(training, lambda _: model.weight.sum() * 1e38, world.PARAMS.optimisation, 0)
    assert model.weight.item() == before
    training.save()
    advance(training, lambda _: model.weight.sum(), world.PARAMS.optimisation, 1)
    assert model.weight.item() != before
    _, again = scaled()
    assert again.engine.state()["scaler"]["scale"] == 8
    again.engine.load_state({})  # of a run in full precision
    assert again.engine.state()["scaler"]["scale"] == 8


@pytest.mark.parametrize("scales", [False, True])
@pytest.mark.parametrize(("gradient", "norm"), [(0.5, 0.5), (2.0, 2.0), (float("inf"), None), (float("nan"), None)])
def test_what_a_norm_was_is_told_and_one_that_overflows_counts_as_none_where_the_loss_is_scaled(
    tmp_path: Path, scales: bool, gradient: float, norm: float | None
) -> None:
    training_engine, weight = world.engine(tmp_path), nn.Parameter(torch.zeros(1))
    if scales:
        training_engine.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    weight.grad = torch.tensor([gradient])
    told = training_engine.clip([weight], 1.0).item()
    if norm is not None:
        assert told == norm and weight.grad.item() == pytest.approx(min(norm, 1.0), abs=1e-5)
    elif scales:
        assert told == 0
    else:
        assert not math.isfinite(told)


def test_where_no_mask_is_given_its_weights_get_a_gradient_of_zero_and_the_tokens_stay(root: Path) -> None:
    unet = world.instance_unet()
    given = batches(root, odds=world.PARAMS.odds.model_copy(update={"everything": 0.0, "mask": 0.0}))[0].conditions
    none = replace(given, mask_given_BN=torch.zeros_like(given.mask_given_BN))
    assert given.mask_given_BN.any()
    of_masks = [weight for part in (unet.unifusion.mask_in, unet.unifusion.mask_trunk) for weight in part.parameters()]
    tokens = unet.unifusion(none)
    handle = unet.unifusion.register_forward_hook(train.zero_gradient_for_unused)
    again = unet.unifusion(none)
    assert torch.equal(again, tokens)
    again.sum().backward()
    assert all(weight.grad is not None and not weight.grad.any() for weight in of_masks)
    handle.remove()
    unet.zero_grad()
    unet.unifusion(none).sum().backward()
    assert all(weight.grad is None for weight in of_masks)
    unet.unifusion(given).sum().backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in of_masks)


def test_what_does_not_go_with_cut_weights_or_with_a_cpu_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="precision is fp16, which needs a GPU"):
        world.engine(tmp_path, precision="fp16")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for odd in ({"precision": "fp16"}, {"optimiser": "adamw_8bit"}, {"compile": True}):
        hardware = world.PARAMS.hardware.model_copy(update={"parallel": "fsdp", **odd})
        with pytest.raises(ValueError, match="parallel is fsdp, which goes with precision no or bf16"):
            engine(hardware, tmp_path)


def sharded(**parts: object) -> fsdp.Sharded:
    """One of several processes, without the others; what they would add is in `parts`."""
    alone = fsdp.Sharded.__new__(fsdp.Sharded)
    alone.device, alone.accumulate = CPU, 2
    alone.accelerator = SimpleNamespace(**parts)
    return alone


@pytest.mark.parametrize(("most", "length"), [(1.0, 1.0), (4.9, 4.9), (5.0, 5.0), (6.0, 5.0), (100.0, 5.0)])
def test_where_weights_are_cut_a_gradient_is_cut_above_the_bound_alone_and_its_norm_is_told(
    most: float, length: float
) -> None:
    weights = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(1))]
    weights[0].grad, weights[1].grad = torch.tensor([0.0, 3.0]), torch.tensor(4.0)  # and the last one has none
    assert sharded(reduce=lambda square, how: square).clip(weights, most).item() == pytest.approx(5)
    assert weights[0].grad.tolist() == pytest.approx([0, 0.6 * length], abs=1e-5)
    assert weights[1].grad.item() == pytest.approx(0.8 * length, abs=1e-5)
    assert weights[2].grad is None


def test_gradients_of_what_is_not_cut_are_averaged_with_the_last_part_of_a_step_alone() -> None:
    vector, number, unused = weights = [nn.Parameter(torch.zeros(size)) for size in ((2,), (), (1,))]

    def mean(flat: torch.Tensor, how: str) -> torch.Tensor:
        assert how == "mean"
        return flat / 2  # the other process has none

    alone = sharded(backward=lambda value: value.backward(), reduce=mean)
    alone.whole_everywhere = weights

    def loss(part: int) -> torch.Tensor:
        return (part + 1) * vector.sum() + 4 * number + 8

    assert alone.backward(loss, 0, last=False).item() == 8
    assert (vector.grad.tolist(), number.grad.item()) == ([0.5, 0.5], 2)
    alone.backward(loss, 1, last=True)
    assert (vector.grad.tolist(), number.grad.item(), unused.grad) == ([0.75, 0.75], 2, None)


def test_the_base_gets_no_gradients(root: Path, tmp_path: Path) -> None:
    unet, training_engine = world.instance_unet(), world.engine(tmp_path)
    start(unet, world.PARAMS.start)
    objective = training_engine.prepare(train.Objective(unet, world.PARAMS, (8, 8)))
    training_engine.gradients(lambda number: objective(batches(root)[number]), 0)
    with_gradients = {name for name, weight in unet.named_parameters() if weight.grad is not None}
    assert with_gradients == unet.instance_layers().keys()


def test_shipped_layers_are_taken_as_they_are(root: Path, tmp_path: Path, whole: bytes) -> None:
    world.trained(root, root / "shipped")
    assert world.trained(root, tmp_path / "out", world.changed(source="import")) == whole
    assert (tmp_path / "out" / train.LOG).is_file()


SHOWN: dict[str, object] = {  # another value of each part of the recipe, which must change what is shown
    "batch_size": 2,
    "order": "anywhere",
    "window": 1,
    "mirror": 0.0,
    "latent_spread": 0.5,
    "drop_caption": 1.0,
    "instance_captions": 0.0,
    "odds": world.PARAMS.odds.model_copy(update={"everything": 1.0}),
    "timesteps": "uniform",
    "compat": "reference",
}


@pytest.mark.parametrize("name", SHOWN)
def test_each_part_of_the_recipe_reaches_the_batches(root: Path, name: str) -> None:
    assert SHOWN.keys() | {"prompts"} == Recipe.model_fields.keys()  # prompts are those of the embeddings

    def all_of(batch: Batch) -> list[float]:
        tensors: list[torch.Tensor] = []
        batch.map(lambda tensor: (tensors.append(tensor), tensor)[1])
        return [tensor.double().sum().item() for tensor in tensors]

    usual, other = batches(root), batches(root, **{name: SHOWN[name]})
    assert [all_of(usual[step]) for step in range(3)] != [all_of(other[step]) for step in range(3)]
    assert [all_of(usual[step]) for step in range(3)] == [all_of(batches(root)[step]) for step in range(3)]


@pytest.mark.parametrize("latent", [(4, 8), (8, 4)])
@pytest.mark.parametrize(("masked", "compat", "min_snr"), [(True, None, None), (False, "reference", 5.0)])
def test_the_objective_is_computed_as_the_parameters_say_on_latents_that_are_not_square(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    latent: tuple[int, int],
    masked: bool,
    compat: str | None,
    min_snr: float | None,
) -> None:
    params = world.changed(
        masked_attention=masked,
        compat=compat,
        min_snr=min_snr,
        optimisation={"steps": 1},
        hardware={"checkpointing": masked},
    )
    source = source_data.in_memory(here(root), params.unifusion, params.compat)
    for view in ("stored", "mirrored"):
        whole = getattr(source, view)
        mean, std = (
            latents[..., : latent[0], : latent[1]] for latents in (whole.latent_mean_BChw, whole.latent_std_BChw)
        )
        setattr(source, view, replace(whole, latent_mean_BChw=mean, latent_std_BChw=std))
    unet, calls = world.instance_unet(), []
    start(unet, params.start)
    ground, loss = unet.ground, train.eps_loss

    def grounding(conditions: Conditions, **how: object) -> Grounding:
        calls.append(how)
        return ground(conditions, **how)

    def weighed(*args: object) -> torch.Tensor:
        calls.append(args[-1])
        return loss(*args)

    monkeypatch.setattr(unet, "ground", grounding)
    monkeypatch.setattr(train, "eps_loss", weighed)
    (tmp_path / "scratch").mkdir()
    assert train.train(params, source, unet, world.engine(tmp_path), tmp_path / "scratch", None) == 1
    assert calls == [{"masked": latent if masked else None, "compat": compat}, min_snr]
    assert unet.is_gradient_checkpointing is masked


@pytest.mark.parametrize(("scaled", "expected"), [(False, {}), (True, {"scale_u": math.tanh(0.5) * 3 / 4})])
def test_the_log_says_how_far_gates_and_scales_are_open_on_average(scaled: bool, expected: dict[str, float]) -> None:
    network = nn.Module()
    for name, value in (("alpha_attn", 0.0), ("alpha_dense", -0.25), ("of_another", 9.0)):
        network.register_parameter(name, nn.Parameter(torch.tensor(value)))
    if scaled:
        network.add_module("block", nn.Module())
        halves = [nn.Parameter(torch.tensor([0.5])), nn.Parameter(torch.tensor([-0.5, 0.0, 0.5]))]
        network.block.add_module("scale_u", nn.ParameterList(halves))
    assert train.gates(network) == pytest.approx({"gate": math.tanh(0.25) / 2} | expected)


class Called(Exception):
    """With the arguments of the call."""


def called(*how: object) -> None:
    raise Called(*how)


def test_samples_are_kept_from_training_for_a_probe_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "Batches", called)
    probe = ProbeParams(every=2, layouts=7, steps=2, guidance=2.0, finder=None, min_score=0.25, patience=None)
    for kept_for, held_out in ((None, 0), (probe, 7)):
        params = world.changed(probe=kept_for, hardware={"accumulate": 4})
        world.forget_processes()
        training_engine = world.engine(tmp_path, accumulate=4)
        with pytest.raises(Called) as call:
            train.train(params, SimpleNamespace(), world.instance_unet(), training_engine, tmp_path, None)
        assert call.value.args[1:] == (params, params.seed, 0, 1, 4, held_out)


@pytest.mark.parametrize(("kind", "workers"), [("memory", 3), ("shards", 3), ("pictures", 0)])
def test_batches_are_made_ahead_for_all_steps_but_where_this_process_encodes_pictures(
    kind: str, workers: int, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "Feed", called)
    source = source_data.samples(here(root), ENCODERS, world.PARAMS, CPU)
    params = world.changed(data={"source": kind, "workers": 3}, hardware={"accumulate": 2})
    unet, training_engine = world.instance_unet(), world.engine(tmp_path, accumulate=2)
    with pytest.raises(Called) as call:
        train.train(params, source, unet, training_engine, tmp_path, None)
    assert call.value.args[1:] == (12, workers, training_engine.device, training_engine.watch)


def test_each_part_of_the_hardware_reaches_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, object] = {}
    accelerator = engines.Accelerator

    def recorded(**how: object) -> object:
        options.update(how)
        return accelerator(**how)

    monkeypatch.setattr(engines, "Accelerator", recorded)
    monkeypatch.setattr(nn.Module, "compile", lambda module: options.update(compiled=module))
    how = world.PARAMS.optimisation.model_copy(update={"learning_rate": 0.5, "weight_decay": 0.25})
    model = nn.Linear(1, 1)
    for changes, precision, parts in (({}, "no", 1), ({"precision": "bf16", "accumulate": 3}, "bf16", 3)):
        world.forget_processes()
        training_engine = world.engine(tmp_path, betas=(0.5, 0.75), **changes)
        assert (options["mixed_precision"], training_engine.accumulate, options["log_with"]) == (precision, parts, None)
        groups = training_engine.optimiser([{"params": [model.weight], "factor": 2.0}], how).param_groups
        assert [groups[0][name] for name in ("betas", "lr", "weight_decay", "factor")] == [(0.5, 0.75), 0.5, 0.25, 2.0]
        assert training_engine.prepare(model) is not None
        assert "compiled" not in options
    world.forget_processes()
    world.engine(tmp_path, compile=True).prepare(model)
    assert options["compiled"] is model
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(fsdp, "Sharded", lambda *_: "cut")
    monkeypatch.setattr(fsdp, "Accelerated", lambda *_: "whole")
    for world_size, kinds in (("1", ["whole", "whole"]), ("2", ["whole", "cut"])):
        monkeypatch.setenv("WORLD_SIZE", world_size)
        hardware = [world.PARAMS.hardware.model_copy(update={"parallel": name}) for name in ("ddp", "fsdp")]
        assert [engine(choice, tmp_path) for choice in hardware] == kinds
