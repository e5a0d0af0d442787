"""params.yaml is written whole, says what configs/ and the overrides say, and is left alone when it already does."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from instdiff.config import compose


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs/train").mkdir(parents=True)
    (tmp_path / "configs/config.yaml").write_text("defaults: [{train: default}, _self_]\nseed: 3\nagain: ${seed}\n")
    (tmp_path / "configs/train/default.yaml").write_text("steps: 5\n")
    (tmp_path / "configs/train/long.yaml").write_text("steps: 50\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compose, "check", lambda text: None)  # these values are of no stage


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], {"train": {"steps": 5}, "seed": 3, "again": 3}),
        (["train=long", "seed=7"], {"train": {"steps": 50}, "seed": 7, "again": 7}),
        (["train.steps=6"], {"train": {"steps": 6}, "seed": 3, "again": 3}),
    ],
)
def test_what_is_compiled_is_what_configs_and_overrides_say(
    tmp_path: Path, overrides: list[str], expected: dict[str, object]
) -> None:
    compose.compile_params(overrides)
    assert yaml.safe_load((tmp_path / "params.yaml").read_text()) == expected


@pytest.mark.parametrize("before", [None, "seed: 1\n"])
def test_a_kill_while_it_is_written_leaves_the_old_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    if before is not None:
        (tmp_path / "params.yaml").write_text(before)
    write = Path.write_text

    def killed(path: Path, text: str, *how: object, **more: Any) -> int:
        write(path, text[: len(text) // 2], *how, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        compose.compile_params(["seed=7"])
    assert [path.name for path in tmp_path.glob("*params*")] == ([] if before is None else ["params.yaml"])
    assert before is None or (tmp_path / "params.yaml").read_text() == before


def test_a_file_that_already_says_it_is_not_written_again(tmp_path: Path) -> None:
    compose.compile_params([])
    written = (tmp_path / "params.yaml").stat()
    compose.compile_params([])
    again = (tmp_path / "params.yaml").stat()
    assert (again.st_ino, again.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    compose.compile_params(["seed=4"])
    assert (tmp_path / "params.yaml").stat().st_ino != written.st_ino
