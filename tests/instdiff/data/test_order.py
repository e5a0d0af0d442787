"""The order of samples: each once in an epoch, each set by its weight, all by the seed and the place alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
import train_world as world
from hypothesis import given
from hypothesis import strategies as st

from instdiff.data import order, source
from instdiff.data.batches import Batches
from instdiff.data.from_pictures import Encoders
from instdiff.data.from_shards import ShardSet, Store
from instdiff.data.order import CYCLE

CPU = torch.device("cpu")
ENCODERS = Encoders(Path("text"), Path("vae"))  # that no test here reads
HOW = {"seed": 5, "rank": 0, "num_processes": 1, "accumulate": 1, "held_out": 0}


def epoch(number: int, sizes: tuple[int, ...], window: int, every: int, of: int = 0, seed: int = 5) -> list[int]:
    places = np.arange(number * every, (number + 1) * every)
    return order.in_epochs(seed, of, sizes, window, every, places).tolist()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(1, 7), st.integers(0, 3), st.data())
def test_an_epoch_mixes_the_samples_of_neighbouring_shards_and_no_others(
    sizes: list[int], window: int, number: int, data: st.DataObject
) -> None:
    every = data.draw(st.integers(1, sum(sizes)))
    whole = epoch(number, tuple(sizes), window, sum(sizes))
    assert sorted(whole) == list(range(sum(sizes)))
    shard_of = np.repeat(np.arange(len(sizes)), sizes)[whole]
    shards = list(dict.fromkeys(shard_of.tolist()))
    starts = [0]
    while starts[-1] < sum(sizes):  # each window ends where its shards do
        there = {shard_of[starts[-1]]}
        end = starts[-1]
        while end < sum(sizes) and (len(there | {shard_of[end]}) <= window):
            there.add(shard_of[end])
            end += 1
        assert end - starts[-1] == sum(sizes[shard] for shard in there)
        starts.append(end)
    assert len(starts) - 1 == -(-len(shards) // window)
    assert epoch(number, tuple(sizes), window, every) == [sample for sample in whole if sample < every]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(1, 7), st.data())
def test_a_sample_at_a_place_is_the_same_whichever_places_are_asked_for(
    sizes: list[int], window: int, data: st.DataObject
) -> None:
    every = data.draw(st.integers(1, sum(sizes)))
    whole = [sample for number in range(3) for sample in epoch(number, tuple(sizes), window, every)]
    places = np.array(data.draw(st.lists(st.integers(0, 3 * every - 1), min_size=1, max_size=9)))
    samples = order.in_epochs(5, 0, tuple(sizes), window, every, places)
    assert samples.tolist() == [whole[place] for place in places]


def test_epochs_sets_and_seeds_have_orders_of_their_own() -> None:
    sizes = (50,) * 4
    orders = [
        epoch(number, sizes, 2, 200, of, seed) for number, of, seed in ((0, 0, 5), (1, 0, 5), (0, 1, 5), (0, 0, 6))
    ]
    assert len({tuple(samples) for samples in orders}) == 4


def test_what_is_remembered_is_windows_and_never_a_list_of_all() -> None:
    order._window.cache_clear()
    sizes = (1000,) * 10_000
    places = np.arange(0, 10_000_000, 1_000_000)
    assert len(set(order.in_epochs(5, 0, sizes, 4, 10_000_000, places).tolist())) == 10
    assert order._window.cache_info().currsize == order._window.cache_info().maxsize == 8
    assert len(order._window(5, 0, 0, sizes, 4, 10_000_000, 0)) == 4000


def test_cycles_hold_of_each_set_its_share_nearest_to_the_weights() -> None:
    assert order.quotas((1.0,)).tolist() == [CYCLE]
    assert order.quotas((3.0, 1.0)).tolist() == [7500, 2500]
    assert order.quotas((1.0, 1.0, 1.0)).tolist() == [3334, 3333, 3333]
    assert order.quotas((1e9, 1.0)).tolist() == [CYCLE, 0]


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=5), st.integers(0, 3 * CYCLE), st.integers(1, 50))
def test_the_samples_of_a_set_are_counted_without_a_gap_from_any_place_on(
    weights: list[float], start: int, count: int
) -> None:
    sets, before = order.mixed(5, tuple(weights), np.arange(start + count))
    there, ranks = order.mixed(5, tuple(weights), np.arange(start, start + count))
    assert np.array_equal(there, sets[start:])
    assert np.array_equal(ranks, before[start:])
    for number in range(len(weights)):
        assert np.array_equal(before[sets == number], np.arange((sets == number).sum()))


# ---- batches of several sets ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    world.made(root)
    return root


def mixture(root: Path, kind: str, weights: tuple[float, float], order: str) -> Batches:
    """The same ten samples as two sets."""
    params = world.changed(order=order, latent_spread=0.0, mirror=0.0, data={"source": kind})
    where = [ShardSet(Store(root / "shards"), Store(root / "embeddings"), weight) for weight in weights]
    return Batches(source.samples(where, ENCODERS, params, CPU), params, **HOW)


@pytest.mark.parametrize("how", ["anywhere", "epochs"])
def test_sets_in_memory_and_in_shards_give_the_same_batches_by_weight(root: Path, how: str) -> None:
    near, far = (mixture(root, kind, (3.0, 1.0), how) for kind in ("memory", "shards"))
    for step in (0, 7, 2):
        assert torch.equal(near[step].latents_BChw, far[step].latents_BChw)
        assert torch.equal(near[step].conditions.box_BN4, far[step].conditions.box_BN4)
    size = near.recipe.batch_size
    steps = CYCLE // size
    chosen = np.concatenate([near._chosen(step, np.random.default_rng(step)) for step in range(steps)])
    assert (chosen < 10).sum() == 7500
    assert set(chosen.tolist()) == set(range(20))


@pytest.mark.parametrize("how", ["anywhere", "epochs"])
def test_the_shares_of_processes_and_parts_are_together_the_batch_of_several_sets(root: Path, how: str) -> None:
    whole = mixture(root, "memory", (3.0, 1.0), how)
    for step in (5, 0):
        shares = [
            Batches(whole.source, whole.recipe, **HOW | {"rank": rank, "num_processes": 2, "accumulate": 2})[
                2 * step + part
            ]
            for part in (0, 1)
            for rank in (0, 1)
        ]
        assert torch.equal(torch.cat([share.latents_BChw for share in shares]), whole[step].latents_BChw)


def test_in_epochs_each_set_shows_all_its_samples_before_any_of_them_again(root: Path) -> None:
    both = mixture(root, "memory", (3.0, 1.0), "epochs")
    draw = np.random.default_rng(0)
    chosen = np.concatenate([both._chosen(step, draw) for step in range(40)])
    for of in (chosen[chosen < 10], chosen[chosen >= 10]):
        for start in range(0, len(of) - 9, 10):
            assert len(set(of[start : start + 10].tolist())) == 10


def test_what_is_held_out_is_the_end_of_the_last_set_and_no_set_may_be_left_without_a_sample(root: Path) -> None:
    both = mixture(root, "memory", (1.0, 1.0), "epochs")
    held = Batches(both.source, both.recipe, **HOW | {"held_out": 3})
    draw = np.random.default_rng(0)
    shown = {int(sample) for step in range(30) for sample in held._chosen(step, draw)}
    assert shown == set(range(17))
    with pytest.raises(ValueError, match="one would never be shown"):
        Batches(both.source, both.recipe, **HOW | {"held_out": 10})
    with pytest.raises(ValueError, match="one would never be shown"):
        mixture(root, "memory", (1.0, 1e9), "epochs")


def test_sets_that_were_embedded_by_other_encoders_are_named(root: Path, tmp_path: Path) -> None:
    from instdiff.data.embeddings import Empty, write_empty

    (tmp_path / "other").mkdir()
    write_empty(tmp_path / "other", Empty(torch.ones(3, world.WIDTH), torch.zeros(world.WIDTH)))
    where = [ShardSet(Store(root / "shards"), Store(path)) for path in (root / "embeddings", tmp_path / "other")]
    params = world.changed(data={"source": "shards"})
    with pytest.raises(ValueError, match=rf"{tmp_path}/other: texts were embedded by other encoders .* {root}/embed"):
        source.samples(where, ENCODERS, params, CPU)
