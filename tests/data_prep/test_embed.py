import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import tiny_encoders
import torch
from data_world import EXECUTION, contents, picture, prepared, sharded
from PIL import Image
from tiny_encoders import LENGTH

from data_prep import embed
from instdiff.data import embeddings, shards
from instdiff.data.encoders import Texts
from instdiff.data.index import INDEX_FILE, Index
from instdiff.layouts.prompts import Prompts
from instdiff.networks import vae as autoencoder
from instdiff.networks.clip import load_text
from instdiff.networks.device import PLAIN

PARAMS = embed.Params(
    batch_size=2,
    precision="float32",
    cached=True,
    prompts=Prompts(listed="never", count_dup=False, add_inst_cap_2_global=False),
    work=EXECUTION,
    device=PLAIN,
)


World = tuple[Path, Mapping[str, float]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    prepared(root)
    sharded(root)
    tiny_encoders.write(root)
    return root, embedded(root)


def embedded(root: Path, to: str = "embeddings", params: embed.Params = PARAMS) -> Mapping[str, float]:
    folders = {"shards": root / "shards", "text": root / "text", "vae": root / "vae"}
    return embed.run(**folders, embeddings=root / to, ledger=root / f"{to}-ledger", params=params)


def test_there_is_a_row_for_every_sample_and_instance_in_the_order_of_the_shards(world: World) -> None:
    root, counts = world
    samples = list(shards.read(root / "shards"))
    parts = list(embeddings.read(root / "embeddings"))
    whole = embeddings.join(parts)
    assert [path.stem for path in embeddings.files(root / "embeddings")] == ["00000", "00001", "00002"]
    assert whole.keys == tuple(sample.key for sample in samples)
    assert counts == {"shards": 3, "samples": 5, "instances": sum(len(sample.layout.instances) for sample in samples)}
    assert whole.latent_mean_SVChw.shape == whole.latent_std_SVChw.shape == (5, 2, 4, 32, 32)
    assert whole.prompt_SLD.shape == (5, LENGTH, 16)


def test_texts_are_encoded_as_one_by_one(world: World) -> None:
    root, _ = world
    encoder = load_text(root / "text")
    whole = embeddings.join(list(embeddings.read(root / "embeddings")))
    for number, sample in enumerate(shards.read(root / "shards")):
        assert torch.allclose(whole.prompt_SLD[number], encoder.tokens([sample.layout.prompt])[0], atol=1e-5)
        phrases = whole.phrases(number)
        assert len(phrases) == len(sample.layout.instances)
        for features, instance in zip(phrases, sample.layout.instances, strict=True):
            assert torch.allclose(features, encoder.pooled([instance.phrase])[0], atol=1e-5)
        for features, instance in zip(whole.categories(number), sample.layout.instances, strict=True):
            assert instance.category != instance.phrase
            assert torch.allclose(features, encoder.pooled([instance.category])[0], atol=1e-5)
    empty = embeddings.read_empty(root / "embeddings")
    assert torch.allclose(empty.prompt_LD, encoder.tokens([""])[0], atol=1e-5)
    assert torch.allclose(empty.phrase_D, encoder.pooled([""])[0], atol=1e-5)


def test_latents_are_scaled_and_the_second_view_is_the_mirror_image(world: World) -> None:
    root, _ = world
    vae = autoencoder.load(root / "vae")
    (first, *_) = embeddings.read(root / "embeddings")
    with Image.open(io.BytesIO(picture(root, first.keys[0]))) as image:
        square = image.convert("RGB").resize((64, 64), Image.Resampling.BICUBIC)
    views = [square, square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    for number, view in enumerate(views):
        pixels = torch.frombuffer(bytearray(view.tobytes()), dtype=torch.uint8).reshape(64, 64, 3)
        latent = vae.encode(pixels.permute(2, 0, 1)[None] / 127.5 - 1).latent_dist
        assert torch.allclose(first.latent_mean_SVChw[0, number], latent.mean[0] * 0.5, atol=5e-5)
        assert torch.allclose(first.latent_std_SVChw[0, number], latent.std[0] * 0.5, atol=5e-5)


def test_a_text_is_encoded_once() -> None:
    seen: list[str] = []

    def encode(texts: Sequence[str]) -> torch.Tensor:
        seen.extend(texts)
        return torch.tensor([[float(len(text))] for text in texts])

    texts = Texts(encode, 2, torch.float32)
    assert texts(["a", "bb", "a", "ccc"]).flatten().tolist() == [1, 2, 1, 3]
    assert texts(["ccc", "dddd"]).flatten().tolist() == [3, 4]
    assert sorted(seen) == ["a", "bb", "ccc", "dddd"]


def test_a_run_again_writes_the_same_bytes_and_a_failure_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    root, _ = world
    before, loads = contents(root / "embeddings"), list[Path]()
    monkeypatch.setattr(embed, "load_text", lambda path, where: loads.append(path) or load_text(path, where))
    embedded(root, "again")
    assert contents(root / "again") == before
    assert len(loads) <= 1  # for the empty text and all shards
    monkeypatch.setattr(embed, "encode", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        embedded(root, params=PARAMS.model_copy(update={"batch_size": 3}))  # so that none is taken over
    assert contents(root / "embeddings") == before


def test_without_a_cache_the_empty_text_alone_is_encoded(world: World) -> None:
    root, _ = world
    counts = embedded(root, "bare", PARAMS.model_copy(update={"cached": False}))
    assert counts == {"shards": 0, "samples": 0, "instances": 0}
    assert embeddings.files(root / "bare") == []


@pytest.mark.parametrize("column", ["key", "sha256"])
def test_the_content_of_a_shard_is_its_samples_in_order(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    root, _ = world
    index = Index(root / "shards" / INDEX_FILE)
    before = [embed.content(index, shard) for shard in range(3)]
    assert len(set(before)) == 3
    read = index.column
    monkeypatch.setattr(index, "column", lambda shard, name: read(shard, name)[:: -1 if name == column else 1])
    after = [embed.content(index, shard) for shard in range(3)]
    assert [own == other for own, other in zip(before, after, strict=True)] == [
        False,
        False,
        True,
    ]  # the last is of one


def test_a_shard_is_encoded_as_if_none_had_been_before_it(world: World, tmp_path: Path) -> None:
    root, _ = world
    index, vae = Index(root / "shards" / INDEX_FILE), autoencoder.load(root / "vae")
    asked: list[list[str]] = []

    def encode(texts: Sequence[str]) -> torch.Tensor:
        asked.append(list(texts))
        return torch.zeros(len(texts), 2)

    after: dict[str, list[list[str]]] = {}
    for name, numbers in (("first", [0, 1]), ("second", [1])):
        own = embed.Encoders(vae, Texts(encode, 2, torch.float32), Texts(encode, 2, torch.float32))
        for number in numbers:
            asked.clear()
            folder = tmp_path / f"{name}{number}"
            (folder / "embeddings").mkdir(parents=True)
            embed.embed_shard(folder, None, index=index, number=number, load=lambda own=own: own, params=PARAMS)
        after[name] = list(asked)
    assert after["first"] == after["second"] != []


def test_half_precision_is_close(world: World) -> None:
    root, _ = world
    embedded(root, "half", PARAMS.model_copy(update={"precision": "float16"}))
    fine, coarse = (embeddings.join(list(embeddings.read(root / name))) for name in ("embeddings", "half"))
    assert coarse.latent_mean_SVChw.dtype == torch.float16
    assert torch.allclose(coarse.latent_mean_SVChw.float(), fine.latent_mean_SVChw, atol=1e-2)
    assert torch.allclose(coarse.prompt_SLD.float(), fine.prompt_SLD, atol=1e-2)
