"""Embeddings of shards: joined, each sample keeps its own; written and read, they are what they were."""

from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instdiff.data import embeddings
from instdiff.data.embeddings import TENSORS, Embedded, Empty, join


def embedded(name: str, counts: list[int], seed: int) -> Embedded:
    """A shard whose samples have so many instances, of numbers of its own."""
    draw = torch.Generator().manual_seed(seed)
    size, total = len(counts), sum(counts)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw)

    return Embedded(
        keys=tuple(f"{name}-{place}" for place in range(size)),
        latent_mean_SVChw=numbers(size, 2, 4, 3, 5),
        latent_std_SVChw=numbers(size, 2, 4, 3, 5),
        prompt_SLD=numbers(size, 7, 6),
        phrase_ID=numbers(total, 6),
        category_ID=numbers(total, 6),
        start_S=torch.tensor([0, *counts]).cumsum(0),
    )


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=4))
@settings(max_examples=25)
def test_joined_each_sample_keeps_its_latents_prompt_phrases_and_categories(counts: list[list[int]]) -> None:
    parts = [embedded(f"{number}", own, number) for number, own in enumerate(counts)]
    whole = join(parts)
    assert whole.keys == tuple(key for part in parts for key in part.keys)
    place = 0
    for part in parts:
        for sample in range(len(part.keys)):
            assert torch.equal(whole.phrases(place), part.phrases(sample))
            assert torch.equal(whole.categories(place), part.categories(sample))
            for name in ("latent_mean_SVChw", "latent_std_SVChw", "prompt_SLD"):
                assert torch.equal(getattr(whole, name)[place], getattr(part, name)[sample])
            place += 1
    assert place == len(whole.keys)


def test_what_is_written_is_read_in_the_order_of_the_names(tmp_path: Path) -> None:
    shards = {name: embedded(name, counts, 3) for name, counts in (("b", [1, 0]), ("a", [2]))}
    for name, shard in shards.items():
        embeddings.write_one(tmp_path / f"{name}.safetensors", shard)
    embeddings.write_empty(tmp_path, Empty(torch.ones(7, 6), torch.zeros(6), "a rule"))
    parts = list(embeddings.read(tmp_path))
    assert [part.keys for part in parts] == [shards["a"].keys, shards["b"].keys]
    for part, name in zip(parts, "ab", strict=True):
        assert all(torch.equal(getattr(part, field), getattr(shards[name], field)) for field in TENSORS)
    empty = embeddings.read_empty(tmp_path)
    assert empty.rule == "a rule"
    assert torch.equal(empty.prompt_LD, torch.ones(7, 6)) and torch.equal(empty.phrase_D, torch.zeros(6))
    embeddings.write_empty(tmp_path, Empty(torch.ones(7, 6), torch.zeros(6)))
    assert embeddings.read_empty(tmp_path).rule == ""
