"""Batches are the same whether pictures and texts were encoded before the training or in it."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_encoders
import torch
import train_world as world
from data_world import EXECUTION, prepared, sharded
from PIL import Image

from data_prep import embed
from instdiff.data import encoders
from instdiff.data import source as train
from instdiff.data.batches import Batches
from instdiff.data.from_pictures import Encoders
from instdiff.data.from_shards import ShardSet, Store
from instdiff.data.samples import Source
from instdiff.data.shards import Sample
from instdiff.layouts.prompts import Prompts
from instdiff.networks import device
from instdiff.schema import Layout

LISTED = Prompts(listed="always", count_dup=True, add_inst_cap_2_global=True)
PLAIN = world.PARAMS.prompts


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    prepared(folder)
    sharded(folder)
    tiny_encoders.write(folder)
    return folder


def embedded(root: Path, to: str, prompts: Prompts, *, cached: bool = True) -> Path:
    params = embed.Params(
        batch_size=2, precision="float32", cached=cached, prompts=prompts, work=EXECUTION, device=device.PLAIN
    )
    folders = {"shards": root / "shards", "text": root / "text", "vae": root / "vae"}
    embed.run(**folders, embeddings=root / to, ledger=root / f"{to}-ledger", params=params)
    return root / to


def source(root: Path, embeddings: Path, kind: str, prompts: Prompts, slots: int = 12, workers: int = 2) -> Source:
    data = {"source": kind, "workers": workers, "texts_at_once": 3}
    params = world.changed(data=data, prompts=prompts, unifusion={"text_width": 16, "max_instances": slots})
    where, encoders = [ShardSet(Store(root / "shards"), Store(embeddings))], Encoders(root / "text", root / "vae")
    return train.samples(where, encoders, params, torch.device("cpu"))


@pytest.mark.parametrize("prompts", [PLAIN, LISTED])
def test_what_is_encoded_in_a_step_is_what_the_cache_holds(root: Path, tmp_path: Path, prompts: Prompts) -> None:
    cache = embedded(root, f"embeddings-{prompts.listed}", prompts)
    nowhere = tmp_path / "none"
    both = [
        Batches(samples, world.changed(prompts=prompts, latent_spread=0.0), 5, 0, 1, 1, 0)
        for samples in (source(root, cache, "shards", prompts), source(root, nowhere, "pictures", prompts))
    ]
    for step in range(3):
        cached, fresh = (batches[step] for batches in both)
        assert torch.allclose(cached.latents_BChw, fresh.latents_BChw, atol=1e-5)
        assert torch.allclose(cached.prompts_BLD, fresh.prompts_BLD, atol=1e-5)
        assert torch.allclose(cached.conditions.text_BND, fresh.conditions.text_BND, atol=1e-5)
        assert torch.equal(cached.conditions.mask_BNHW, fresh.conditions.mask_BNHW)
        assert torch.equal(cached.noise_BChw, fresh.noise_BChw)


def test_of_more_instances_than_slots_those_encoded_in_a_step_are_those_cached(root: Path, tmp_path: Path) -> None:
    """Those with the largest boxes, their captions and their categories."""
    cache = embedded(root, "embeddings-few", PLAIN)
    numbers, plain = torch.arange(5), torch.zeros(5, dtype=torch.bool)
    of_all, cached, fresh = (
        source(root, where, kind, PLAIN, slots, workers=0).gather(numbers, plain)
        for where, kind, slots in ((cache, "shards", 12), (cache, "shards", 1), (tmp_path / "none", "pictures", 1))
    )
    assert (of_all.conditions.filled_BN.sum(1) > 1).any()
    boxes = of_all.conditions.box_BN4
    largest = ((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])).argmax(1)
    for batch in (cached, fresh):
        assert torch.allclose(batch.conditions.box_BN4[:, 0], boxes[numbers, largest])
        assert torch.allclose(batch.conditions.text_BND[:, 0], of_all.conditions.text_BND[numbers, largest], atol=1e-5)
        assert torch.allclose(batch.category_BND[:, 0], of_all.category_BND[numbers, largest], atol=1e-5)


def test_prompts_of_another_rule_than_the_recipes_are_refused(root: Path) -> None:
    listed = embedded(root, "listed", LISTED)
    for kind in ("memory", "shards"):
        with pytest.raises(ValueError, match=r"listed: prompts were embedded by the rule .*count_dup.*`embed` again"):
            source(root, listed, kind, PLAIN)
    assert source(root, listed, "shards", LISTED).empty.rule


def test_a_picture_is_brought_to_the_autoencoders_square_by_cubic_interpolation() -> None:
    rng = np.random.default_rng(0)
    vae = SimpleNamespace(config=SimpleNamespace(sample_size=8), device="cpu")
    for size in ((8, 8), (10, 6), (5, 12)):
        image = Image.fromarray(rng.integers(0, 256, (size[1], size[0]), dtype=np.uint8))
        stream = io.BytesIO()
        image.save(stream, "PNG")
        sample = Sample("k", stream.getvalue(), "png", Layout(key="k", prompt="", instances=()))
        expected = np.asarray(image.convert("RGB").resize((8, 8), Image.Resampling.BICUBIC))
        (pixels_CHW,) = encoders.pixels([sample], vae)  # type: ignore[arg-type]
        assert torch.allclose(pixels_CHW, torch.from_numpy(expected).movedim(-1, 0) / 127.5 - 1, atol=1e-6)


def test_nothing_is_cached_where_training_encodes(root: Path) -> None:
    assert [path.name for path in embedded(root, "empty", PLAIN, cached=False).iterdir()] == ["empty.safetensors"]
