"""The paper's table by one command: what is given is checked first, and its page of stages is held to the code."""

import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import paper
from instdiff import stage
from instdiff.work import resume

ROOT = Path(__file__).parents[2]
PAGE = yaml.safe_load(paper.DRAWING.read_text())
RUN = [name for name, entry in PAGE["stages"].items() if "instdiff " not in entry.get("do", entry)["cmd"]]


def files(folder: Path) -> tuple[Path, Path]:
    """Empty files under the names of COCO's and the weights'."""
    coco, weights = folder / "coco", folder / "weights"
    for path in paper.Coco(coco / "val2017", *(coco / "annotations" / name for name in paper.ANNOTATIONS)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if path.name == "val2017" else path.write_text("{}")
    weights.mkdir()
    for kind in paper.KINDS:
        there = weights / kind.names[0]
        if kind.holds:
            there.mkdir()
            there = there / kind.holds
        there.write_text("")
    return coco, weights


def prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str, workers: str | None = None, to: str = "out"
) -> Path:
    coco, weights = files(tmp_path)
    for name in ("configs", "dvc.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paper.values, "check", lambda values: None)  # a process of its own; tests/test_config.py
    paper.prepare(coco, weights, 7, workers, overrides, tmp_path / to)
    return tmp_path / to


def test_the_same_words_again_write_no_file_anew_however_deep_the_folder_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared(tmp_path, monkeypatch, to="some/where")
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    paper.prepare(tmp_path / "coco", tmp_path / "weights", 7, None, [], folder)
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == before != {}


@pytest.mark.parametrize(("status", "says"), [(0, True), (1, False), (-1, False)])
def test_where_the_table_lies_is_said_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: int, says: bool
) -> None:
    monkeypatch.setattr(paper, "prepare", lambda *_: None)
    monkeypatch.setattr(paper, "make", lambda _: status)
    with pytest.raises(SystemExit) as end:
        paper.main(["--coco", "c", "--weights", "w", "--out", str(tmp_path)])
    assert end.value.code == status
    assert (f"the paper's table: {tmp_path / 'paper.html'}" in capsys.readouterr().out) == says


@pytest.mark.parametrize("lacking", ["--coco", "--weights"])
def test_a_folder_that_is_not_named_is_asked_for(lacking: str, capsys: pytest.CaptureFixture[str]) -> None:
    named = {"--coco": "c", "--weights": "w"}
    with pytest.raises(SystemExit):
        paper.parser().parse_args([word for name in named if name != lacking for word in (name, named[name])])
    assert f"required: {lacking}" in capsys.readouterr().err


def entry(name: str) -> dict[str, Any]:
    stage: dict[str, Any] = PAGE["stages"][name]
    return stage.get("do", stage)


@pytest.mark.parametrize("name", RUN)
def test_a_command_is_its_modules_signature_and_every_path_of_it_is_declared(name: str) -> None:
    words = shlex.split(entry(name)["cmd"])
    module = import_module(words[2])
    assert words[2].rpartition(".")[2] == name
    options = dict(zip(words[3::2], words[4::2], strict=True))
    kinds = {**stage.arguments(module.run), "stats": Path}
    assert list(options) == [f"--{argument.replace('_', '-')}" for argument in kinds]
    listed = entry(name)
    outs = [next(iter(out)) if isinstance(out, dict) else out for out in [*listed["outs"], *listed["metrics"]]]
    for argument, kind in kinds.items():
        path = options[f"--{argument.replace('_', '-')}"]
        if kind is Path and not path.startswith("${here."):
            assert any(path == dep or path.startswith(f"{dep}/") for dep in [*listed["deps"], *outs]), argument


def test_the_page_names_the_code_that_its_stages_run_and_the_files_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = yaml.safe_load((prepared(tmp_path, monkeypatch) / "dvc.yaml").read_text())["stages"]
    for name in ("generate", "detect", "score"):
        deps = written[name]["do"]["deps"]
        code = [dep.removeprefix("../") for dep in deps if dep.startswith("../")]
        for module in resume.modules(shlex.split(entry(name)["cmd"])[2]):
            path = resume.source(module).relative_to(ROOT).as_posix()
            assert any(path == dep or path.startswith(f"{dep}/") for dep in code), path
    assert {str(tmp_path / "weights" / kind.names[0]) for kind in paper.KINDS} <= set(written["weights"]["deps"])
    assert str(tmp_path / "coco" / "val2017") in written["self_test"]["deps"]
    for each in written.values():
        deps = each.get("do", each)["deps"]
        assert len(set(deps)) == len(deps)


def test_every_row_is_drawn_plain_and_those_of_attributes_with_a_word_in_each_phrase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared(tmp_path, monkeypatch, "+rows.mine={meaning: mine, pictures: drawn, formats: [box], mis: 0.0}")
    values = yaml.safe_load((folder / "params.yaml").read_text())
    rows = ["real", "none", "box", "mask", "point", "scribble", "hybrid"]
    rows += [f"reference_{name}" for name in ("point", "box", "mask", "scribble")]
    rows += ["mine"]
    assert list(values["rows"]) == rows  # in the order in which the page will show them
    pairs = {(cell["truth"], cell["row"]) for cell in values["here"]["drawn"].values()}
    assert pairs == {("plain", row) for row in rows} | {
        (truth, row) for truth in ("colour", "texture") for row in ("box", "reference_box")
    }
    assert "--subset 7" in values["here"]["truths"]["colour"]
    assert "--attributes colour" in values["here"]["truths"]["colour"]
    assert "--attributes" not in values["here"]["truths"]["plain"]


def test_the_stages_are_given_the_files_by_words_that_a_shell_reads_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a folder"
    root.mkdir()
    here = yaml.safe_load((prepared(root, monkeypatch) / "params.yaml").read_text())["here"]
    words = {name: shlex.split(text) for name, text in here.items() if isinstance(text, str)}
    assert words == {
        "weights": [word for kind in paper.KINDS for word in (f"--{kind.option}", f"{root}/weights/{kind.names[0]}")],
        "coco": [
            *("--instances", f"{root}/coco/annotations/instances_val2017.json"),
            *("--captions", f"{root}/coco/annotations/captions_val2017.json"),
        ],
        "pictures": [f"{root}/coco/val2017"],
        "annotations": [f"{root}/coco/annotations/instances_val2017.json"],
    }
    benchmark = yaml.safe_load((ROOT / "configs" / "paper" / "default.yaml").read_text())["benchmark"]
    plain = [
        "--size",
        f"{benchmark['size']}",
        "--seed",
        f"{benchmark['seed']}",
        "--compat",
        "reference",
        "--subset",
        "7",
    ]
    assert {name: shlex.split(text) for name, text in here["truths"].items()} == {
        "plain": plain,
        "colour": [*plain, "--attributes", "colour"],
        "texture": [*plain, "--attributes", "texture"],
    }


def test_a_row_of_attributes_that_is_none_is_named_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"benchmark\.attribute_rows: no row 'boxes'; there are "):
        prepared(tmp_path, monkeypatch, "benchmark.attribute_rows=[box,boxes]")
    assert not (tmp_path / "out").exists()


def test_of_the_names_of_a_weight_the_first_that_is_there_is_taken_and_a_folder_must_hold_its_file(
    tmp_path: Path,
) -> None:
    _, weights = files(tmp_path)
    judge = weights / "CLIP-ViT-L-14-laion2B-s32B-b82K"
    judge.rename(weights / "open_clip_model.safetensors")
    assert paper.weight_files(weights, "judge")["judge"] == weights / "open_clip_model.safetensors"
    (weights / "open_clip_pytorch_model.bin").touch()
    assert paper.weight_files(weights, "judge")["judge"] == weights / "open_clip_pytorch_model.bin"
    (weights / "clip-vit-large-patch14" / "merges.txt").unlink()
    assert "tokenizer" not in paper.weight_files(weights, "judge")
    (weights / "open_clip_pytorch_model.bin").unlink()
    (weights / "open_clip_model.safetensors").unlink()
    said = "CLIP-ViT-L-14-laion2B-s32B-b82K or open_clip_pytorch_model.bin or open_clip_model.safetensors"
    with pytest.raises(ValueError, match=f"^{weights}: not there: {said}$"):
        paper.weight_files(weights, "inception")


@pytest.mark.parametrize(
    ("workers", "executor"), [(None, "here"), ("3", "processes"), ("slurm", "slurm"), ("tcp://a:1", "dask")]
)
def test_workers_reach_every_stage_that_draws_or_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str | None, executor: str
) -> None:
    values = yaml.safe_load((prepared(tmp_path, monkeypatch, workers=workers) / "params.yaml").read_text())
    plain = yaml.safe_load((ROOT / "params.yaml").read_text())["generate"]["work"]["workers"]
    for name in ("generate", "detect", "score"):
        assert values[name]["work"]["workers"]["executor"] == executor
        assert values[name]["work"]["workers"]["processes"] == (3 if workers == "3" else plain["processes"])
        assert values[name]["work"]["workers"]["dask"] == (workers if executor == "dask" else plain["dask"])
    assert values["paper"]["gpus"] == (3 if workers == "3" else 1)


def test_all_that_is_not_there_is_named_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coco, weights = files(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.setattr(paper.values, "check", lambda values: None)
    (weights / "yolov8m-seg.pt").unlink()
    (weights / "instancediffusion_sd15.pth").unlink()
    with pytest.raises(ValueError, match=r"not there: instancediffusion_sd15.pth, yolov8m-seg.pt"):
        paper.prepare(coco, weights, None, None, [], tmp_path / "out")
    (coco / "annotations" / "captions_val2017.json").unlink()
    with pytest.raises(ValueError, match=r"annotations/captions_val2017.json not there"):
        paper.prepare(coco, weights, None, None, [], tmp_path / "out")
    with pytest.raises(ValueError, match="WORKERS=many"):
        paper.workers("many")
    assert not (tmp_path / "out").exists()


def test_a_folder_outside_the_repository_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tree").mkdir()
    monkeypatch.chdir(tmp_path / "tree")
    with pytest.raises(ValueError, match="must be a folder within"):
        paper.prepare(tmp_path, tmp_path, None, None, [], tmp_path / "out")


def test_inception_is_needed_only_where_sets_are_compared_in_its_features(tmp_path: Path) -> None:
    _, weights = files(tmp_path)
    (weights / "pt_inception-2015-12-05-6726825d.pth").unlink()
    assert "inception" not in paper.weight_files(weights, "judge")
    with pytest.raises(ValueError, match="pt_inception"):
        paper.weight_files(weights, "inception")
