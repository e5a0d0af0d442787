"""What ultralytics would change of a process is given back, whatever happens within."""

import os

import pytest
from PIL import Image

from instdiff.networks import detector


@pytest.mark.parametrize("world_size", ["2", None])
@pytest.mark.parametrize("fails", [False, True])
def test_the_number_of_processes_and_the_way_pictures_are_opened_stay(
    world_size: str | None, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world_size is not None:
        monkeypatch.setenv("WORLD_SIZE", world_size)
    opens = Image.open
    try:
        with detector.private_settings():
            assert os.environ.get("WORLD_SIZE") == world_size
            assert Image.open is opens
            assert os.environ["YOLO_OFFLINE"] == "true"
            if fails:
                raise KeyError("within")
    except KeyError:
        assert fails
    assert os.environ.get("WORLD_SIZE") == world_size
    assert Image.open is opens


def test_what_the_person_has_set_for_ultralytics_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_OFFLINE", "mine")
    with detector.private_settings():
        assert os.environ["YOLO_OFFLINE"] == "mine"
