"""dvc.yaml is the one drawing of the graph: code, configs and params.yaml are held to it.

So they are to the page beside the shipped weights, which says how the annotators among them are made.
"""

import shlex
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import compose_and_dump

from instdiff import config, stage
from instdiff.work import resume

ROOT = Path(__file__).parents[1]
PAGES = [yaml.safe_load((ROOT / path).read_text()) for path in ("dvc.yaml", "weights/miniature/annotators.yaml")]
STAGES: dict[str, dict[str, Any]] = {
    name: entry.get("do", entry) for page in PAGES for name, entry in page["stages"].items()
}
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
EXPERIMENTS = sorted(path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml"))

each_stage = pytest.mark.parametrize("name", STAGES)


def command(name: str) -> list[str]:
    return shlex.split(STAGES[name]["cmd"])


def options(name: str) -> dict[str, str]:
    words = command(name)[3:]
    return dict(zip(words[::2], words[1::2], strict=True))


def module(name: str) -> ModuleType:
    return import_module(command(name)[2])


def declared(name: str, kind: str) -> list[str]:
    entries = STAGES[name].get(kind, [])
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def test_params_yaml_is_compiled_from_configs() -> None:
    assert (ROOT / "params.yaml").read_text() == config.composed([], ROOT / "configs")


def test_dvc_exp_run_would_write_the_same_params(tmp_path: Path) -> None:
    overrides = ["experiment=smoke", "seed=7"]
    compose_and_dump(tmp_path / "params.yaml", str(ROOT / "configs"), None, "config", str(tmp_path), overrides)
    assert (tmp_path / "params.yaml").read_text() == config.composed(overrides, ROOT / "configs")


@each_stage
def test_a_stage_has_one_name_everywhere(name: str) -> None:
    assert command(name)[:2] == ["python", "-m"]
    assert command(name)[2].rpartition(".")[2] == name
    assert STAGES[name]["params"] == [name]
    assert name in PARAMS
    assert (ROOT / "configs" / name).is_dir()


def test_a_section_without_a_stage_is_one_that_stages_share() -> None:
    readers = [*(ROOT / "configs").rglob("*.yaml"), ROOT / "dvc.yaml"]
    configs = "".join(path.read_text() for path in readers)
    for section in PARAMS.keys() - STAGES.keys():
        assert f"${{{section}." in configs or f"${{{section}}}" in configs, f"nobody reads {section}"


@pytest.mark.parametrize("experiment", [None, *EXPERIMENTS])
def test_the_values_of_every_experiment_fit_the_stages(experiment: str | None) -> None:
    values = yaml.safe_load(config.composed([f"experiment={experiment}"] if experiment else [], ROOT / "configs"))
    for name in STAGES:
        module(name).Params.model_validate(values[name])


@each_stage
def test_a_stage_has_no_values_of_its_own(name: str) -> None:
    defaults = [field for field, info in module(name).Params.model_fields.items() if not info.is_required()]
    assert defaults == []


@each_stage
def test_the_command_line_is_the_signature(name: str) -> None:
    expected = {**stage.arguments(module(name).run), "stats": Path}
    assert list(options(name)) == [f"--{argument.replace('_', '-')}" for argument in expected]
    for argument, kind in expected.items():
        given = options(name)[f"--{argument.replace('_', '-')}"]
        is_item = given == "${key}" or given.startswith("${item.")
        assert is_item == (kind is str), f"{argument} is declared as {kind.__name__}"


@each_stage
def test_every_path_is_declared_and_every_declared_path_is_given(name: str) -> None:
    kinds = {**stage.arguments(module(name).run), "stats": Path}
    given = {options(name)[f"--{argument.replace('_', '-')}"] for argument, kind in kinds.items() if kind is Path}
    read = {path for path in declared(name, "deps") if not path.endswith((".py", ".j2"))}  # the others are code
    written = set(declared(name, "outs") + declared(name, "metrics") + declared(name, "plots"))
    assert read | written == given
    assert not read & written


@each_stage
def test_the_deps_name_all_the_code_a_stage_runs(name: str) -> None:
    code = {resume.source(module).relative_to(ROOT).as_posix() for module in resume.modules(command(name)[2])}
    assert {path for path in declared(name, "deps") if path.endswith(".py")} == code
