"""Shards read by libraries that the lock does not have, datasets and megatron-energon: run by hand where they are."""

from pathlib import Path

import pytest
from data_world import prepared, sharded

from instdiff.data import shards


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of five scenes."""
    root = tmp_path_factory.mktemp("run")
    prepared(root)
    sharded(root)
    return root / "shards"


def test_hugging_face_datasets_reads_pictures_and_layouts(folder: Path, tmp_path: Path) -> None:
    """Five rows, in the order of the tars."""
    import datasets

    files = {"train": str(folder / "*.tar")}
    rows = datasets.load_dataset("webdataset", data_files=files, split="train", cache_dir=str(tmp_path))
    expected = list(shards.read(folder))
    assert [row["__key__"] for row in rows] == [sample.key for sample in expected]
    assert [row["json.gz"]["prompt"] for row in rows] == [sample.layout.prompt for sample in expected]
    assert rows[0]["png"].size == (96, 64)


def test_energon_reads_every_sample_without_preparation(folder: Path) -> None:
    """Each sample once, whatever the order."""
    from megatron.energon import (
        Cooker,
        CrudeSample,
        DefaultTaskEncoder,
        WorkerConfig,
        get_loader,
        get_train_dataset,
        stateless,
    )

    @stateless
    def as_it_lies(sample: CrudeSample) -> CrudeSample:
        return CrudeSample(sample)

    class Encoder(DefaultTaskEncoder):
        cookers = (Cooker(as_it_lies),)

        def batch(self, samples: list[CrudeSample]) -> list[CrudeSample]:
            return samples

    how = {"batch_size": 1, "shuffle_buffer_size": None, "max_samples_per_sequence": None, "repeat": False}
    workers = WorkerConfig(rank=0, world_size=1, num_workers=0)
    data = get_train_dataset(str(folder), worker_config=workers, task_encoder=Encoder(), **how)
    samples = [sample for batch in get_loader(data) for sample in batch]
    prompts = {sample["__key__"]: sample["json.gz"]["prompt"] for sample in samples}
    assert prompts == {sample.key: sample.layout.prompt for sample in shards.read(folder)}
    assert samples[0]["png"].shape[0] == 3
