"""Pictures come from S3 and shards go there, as from and to a folder."""

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from data_world import WORK, picture, prepared, sharded
from moto.server import ThreadedMotoServer

from data_prep import ingest
from data_prep.commands import push_shards
from instdiff.files import tables
from instdiff.layouts.columns import IMAGES


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir("pictures")
    yield "s3://pictures"
    server.stop()


def test_a_list_and_its_pictures_may_lie_on_s3_and_shards_go_there_once(tmp_path: Path, bucket: str) -> None:
    prepared(tmp_path)
    images = tables.read(tmp_path / "images" / "train", IMAGES)
    store = fsspec.filesystem("s3")
    for key, file in zip(images["key"], images["file"], strict=True):
        store.pipe_file(f"pictures/in/{file}", picture(tmp_path, key))
    records = [{"image": file, "caption": text} for file, text in zip(images["file"], images["caption"], strict=True)]
    store.pipe_file("pictures/in/list.json", json.dumps([*records, {"image": "gone.png", "caption": ""}]).encode())
    source = {"source": "captioned", "train": {"path": f"{bucket}/in/list.json", "root": None}, "val": None}
    how = {"val_share": 0.0, "limits": {"min_side": 1, "max_pixels": 10**6}, "work": WORK.model_dump()}
    folders = {name: tmp_path / "out" / name for name in ("pictures", "images", "given", "ledger")}
    counts = ingest.run(**folders, params=ingest.Params.model_validate({**source, **how}))
    assert counts["train_failed_missing_file"] == 1
    assert tables.read(tmp_path / "out" / "images" / "train", IMAGES)["sha256"].tolist() == list(images["sha256"])

    sharded(tmp_path)
    assert push_shards.push(tmp_path / "shards", f"{bucket}/shards") == 4
    for path in (*(tmp_path / "shards").glob("*.tar"), tmp_path / "shards" / "index.arrow"):
        assert store.cat_file(f"pictures/shards/{path.name}") == path.read_bytes()


def test_a_push_sends_what_is_missing_or_other_and_the_index_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path)
    sharded(tmp_path)
    to = tmp_path / "store"
    system = fsspec.filesystem("file")
    put, room = system.put_file, [2]

    def breaks(here: str, there: str) -> None:
        room[0] -= 1
        if room[0] < 0:
            raise OSError("the line is dead")
        put(here, there)

    monkeypatch.setattr(system, "put_file", breaks)
    monkeypatch.setattr(push_shards.fsspec, "url_to_fs", lambda url: (system, url))
    with pytest.raises(OSError, match="the line is dead"):
        push_shards.push(tmp_path / "shards", str(to))
    assert not (to / "index.arrow").exists()
    room[0] = 100
    assert push_shards.push(tmp_path / "shards", str(to)) == 2
    (to / "00000.tar.sha256").write_text("another")
    room[0] = 1
    with pytest.raises(OSError, match="the line is dead"):
        push_shards.push(tmp_path / "shards", str(to))
    assert not (to / "index.arrow").exists()  # nobody reads the old index with the new shards
    room[0] = 100
    assert push_shards.push(tmp_path / "shards", str(to)) == 1
    assert push_shards.push(tmp_path / "shards", str(to)) == 0


def test_a_file_that_is_half_sent_has_no_note_that_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(tmp_path)
    sharded(tmp_path)
    to, system = tmp_path / "store", fsspec.filesystem("file")
    push_shards.push(tmp_path / "shards", str(to))
    (to / "00000.tar.sha256").write_text("of another tar")

    def half(here: str, there: str) -> None:
        Path(there).write_bytes(Path(here).read_bytes()[:100])
        raise OSError("the line is dead")

    monkeypatch.setattr(system, "put_file", half)
    monkeypatch.setattr(push_shards.fsspec, "url_to_fs", lambda url: (system, url))
    with pytest.raises(OSError, match="the line is dead"):
        push_shards.push(tmp_path / "shards", str(to))
    assert (to / "00000.tar").stat().st_size == 100
    assert not (to / "00000.tar.sha256").exists()
