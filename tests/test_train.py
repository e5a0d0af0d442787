"""What is learned depends on the recipe alone: not on where samples lie, who computes, or how often it was killed."""

import random
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tiny_encoders
import torch
import train_world as world
import yaml
from safetensors.torch import load
from torch import nn

from instdiff import config
from instdiff.checkpoints import official as checkpoint
from instdiff.data import source
from instdiff.data.batches import Batches, epoch_order
from instdiff.data.from_shards import FromShards, ShardIndex, Store
from instdiff.model.noise_schedule import eps_loss, uniform_timesteps
from instdiff.training import train
from instdiff.training.fsdp import engine
from instdiff.training.initial_weights import Lora, Start, merge, start
from instdiff.training.loop import Training, advance
from instdiff.training.probe import ProbeParams

SHIPPED = Path(__file__).parents[1] / "weights" / "miniature"
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


def furthest(one: bytes, other: bytes) -> float:
    ours, theirs = load(one), load(other)
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


def batches(root: Path, **changes: object) -> Batches:
    params = world.changed(**changes)
    stores = source.stores(root / "shards", root / "embeddings", params.data)
    return Batches(source.samples(stores, params, CPU), params, **ONE)


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
    far = FromShards(*stores, world.PARAMS.unifusion, None)
    near = source.samples((Store(root / "shards"), Store(root / "embeddings")), world.PARAMS, CPU)
    chosen, mirrored = torch.tensor([9, 0, 3]), torch.tensor([True, False, True])
    ours, theirs = far.gather(chosen, mirrored), near.gather(chosen, mirrored)
    assert torch.equal(ours.latent_mean_BChw, theirs.latent_mean_BChw)
    assert torch.equal(ours.category_BND, theirs.category_BND)
    assert torch.equal(ours.conditions.scribble_BNS, theirs.conditions.scribble_BNS)


def test_copies_make_room_for_others_and_come_again(root: Path, tmp_path: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").put(str(root / "shards"), "/small/shards", recursive=True)
    sizes = sorted(path.stat().st_size for path in (root / "shards").iterdir())
    limit = sizes[0] + sizes[-1] + sizes[-2]  # the index and any two of five shards
    store = Store(tmp_path / "copies/shards", "memory://small/shards", limit)
    far, near = ShardIndex(store), ShardIndex(Store(root / "shards"))
    for number in (0, 2, 4, 6, 8, 0, 1, 9, 4):
        assert far.sample(number).picture == near.sample(number).picture
        kept = list((tmp_path / "copies").rglob("*.*"))
        assert sum(path.stat().st_size for path in kept) <= limit
    assert {path.name for path in kept} >= {near.rows[9]["shard"], near.rows[4]["shard"]}  # the last two of use
    removed = []

    def use(path: Path) -> bytes:
        if not removed:
            removed.append(path.unlink())  # by another process, between the look and the reading
        return path.read_bytes()

    assert store.read(near.rows[4]["shard"], use) == (root / "shards" / near.rows[4]["shard"]).read_bytes()
    with pytest.raises(ValueError, match=r"small/shards/.*tar: \d+ bytes, and train.data.copies_limit is 10"):
        Store(tmp_path / "none/shards", "memory://small/shards", 10).path(near.rows[0]["shard"])


def test_an_epoch_shows_each_sample_once_and_the_shares_of_the_processes_are_equal(root: Path) -> None:
    order = epoch_order(5, 0, (2, 2, 2, 2, 2), 2, 10)
    assert sorted(order.tolist()) == list(range(10))
    assert order.tolist() != epoch_order(5, 1, (2, 2, 2, 2, 2), 2, 10).tolist()
    assert sorted(epoch_order(5, 0, (2, 2, 2, 2, 2), 2, 7).tolist()) == list(range(7))
    one = batches(root)
    for step in (0, 1, 4):
        drawn = one[step]
        shares = [
            Batches(one.source, one.recipe, **ONE | {"rank": rank, "num_processes": 2, "accumulate": 2})[
                2 * step + part
            ]
            for part in (0, 1)
            for rank in (0, 1)
        ]
        assert [len(share.latents_BChw) for share in shares] == [1, 1, 1, 1]
        assert torch.equal(torch.cat([share.latents_BChw for share in shares]), drawn.latents_BChw)
        assert torch.equal(torch.cat([share.timesteps_B for share in shares]), drawn.timesteps_B)
        assert torch.equal(torch.cat([share.conditions.text_BND for share in shares]), drawn.conditions.text_BND)


def test_a_batch_that_cannot_be_shared_equally_is_refused(root: Path) -> None:
    one = batches(root)
    with pytest.raises(ValueError, match="batch_size 4 cannot be shared equally by 3 processes"):
        Batches(one.source, one.recipe, **ONE | {"num_processes": 3})


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
    told = [batches(root, drop_caption=share, latent_spread=0.0)[0].prompts_BLD for share in (0.0, 1.0)]
    dropped = [(prompts == 0).all(-1).all(-1) for prompts in told]  # zeros stand for the empty text in this world
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
    values = yaml.safe_load(config.composed([f"train={name}"], Path(__file__).parents[1] / "configs"))
    train.Params.model_validate(values["train"])


def test_uniform_timesteps_cover_the_schedule() -> None:
    drawn = uniform_timesteps(4000, torch.Generator().manual_seed(0))
    assert 0 <= int(drawn.min()) < 5
    assert 994 < int(drawn.max()) < 1000
    assert np.histogram(drawn, 10, (0, 1000))[0] == pytest.approx(400, abs=80)


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
    drawn = {"every": 2, "layouts": 2, "steps": 2, "guidance": 2.0, "min_score": 0.25, "patience": None}
    probe = ProbeParams(**drawn, **judges, text=tmp_path / "text", vae=tmp_path / "vae")
    world.trained(root, tmp_path / "one", world.changed(probe=probe))
    cut = world.changed(probe=probe, hardware={"parallel": parallel})
    assert world.run(root, tmp_path / "two", processes=2, params=cut) == [0, 0]
    one, two = (pd.read_csv(tmp_path / name / "log.csv") for name in ("one", "two"))
    assert one["right_colour"].notna().all()
    pd.testing.assert_frame_equal(one, two, rtol=1e-3)


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

    one = world.engine(tmp_path, trackers=("tensorboard",))
    for step in (2, 4):
        one.show(step, {"loss": 1 / step, "step_seconds": 0.5})
    one.show_picture(4, np.zeros((8, 8, 3), dtype=np.uint8))
    one.end()
    told = EventAccumulator(str(tmp_path / "trackers/instdiff"))
    told.Reload()
    assert [(row.step, row.value) for row in told.Scalars("loss")] == [(2, 0.5), (4, 0.25)]
    assert [row.step for row in told.Images("probe")] == [4]
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


def test_a_step_that_overflows_is_skipped_and_the_scale_is_kept(tmp_path: Path) -> None:
    def scaled() -> tuple[nn.Linear, Training]:
        one = world.engine(tmp_path)
        one.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=16.0)  # as accelerate has it with fp16 on a GPU
        model = nn.Linear(1, 1, bias=False)
        one.prepare(model)
        return model, Training(model, world.PARAMS.optimisation, one, tmp_path / "checkpoint.pt")

    model, training = scaled()
    before = model.weight.item()
    advance(training, lambda _: model.weight.sum() * 1e38, world.PARAMS.optimisation, 0)
    assert model.weight.item() == before
    training.save()
    advance(training, lambda _: model.weight.sum(), world.PARAMS.optimisation, 1)
    assert model.weight.item() != before
    _, again = scaled()
    assert again.engine.state()["scaler"]["scale"] == 8


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


def test_the_base_gets_no_gradients(root: Path, tmp_path: Path) -> None:
    unet, one = world.instance_unet(), world.engine(tmp_path)
    start(unet, world.PARAMS.start)
    objective = one.prepare(train.Objective(unet, world.PARAMS, (8, 8)))
    one.gradients(lambda number: objective(batches(root)[number]), 0)
    given = {name for name, weight in unet.named_parameters() if weight.grad is not None}
    assert given == unet.instance_layers().keys()


def test_shipped_layers_are_taken_as_they_are(root: Path, tmp_path: Path, whole: bytes) -> None:
    world.trained(root, root / "shipped")
    assert world.trained(root, tmp_path / "out", world.changed(source="import")) == whole
    assert (tmp_path / "out" / train.LOG).is_file()
