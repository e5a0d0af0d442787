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

from instdiff import stage
from instdiff.config import compose
from instdiff.config import values as values_of
from instdiff.work import resume

ROOT = Path(__file__).parents[1]
PAGES = [yaml.safe_load((ROOT / path).read_text()) for path in ("dvc.yaml", "weights/miniature/annotators.yaml")]
STAGES: dict[str, dict[str, Any]] = {
    name: entry.get("do", entry) for page in PAGES for name, entry in page["stages"].items()
}
PIPELINE = list(PAGES[0]["stages"])
EACH_ROW = [name for name, entry in PAGES[0]["stages"].items() if "foreach" in entry]
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
    assert (ROOT / "params.yaml").read_text() == compose.composed([], ROOT / "configs")


def test_dvc_exp_run_would_write_the_same_params(tmp_path: Path) -> None:
    overrides = ["experiment=smoke", "seed=7"]
    compose_and_dump(tmp_path / "params.yaml", str(ROOT / "configs"), None, "config", str(tmp_path), overrides)
    assert (tmp_path / "params.yaml").read_text() == compose.composed(overrides, ROOT / "configs")


@each_stage
def test_a_stage_has_one_name_everywhere(name: str) -> None:
    assert command(name)[:2] == ["python", "-m"]
    assert command(name)[2].rpartition(".")[2] == name
    rows = {"generate": ["rows.${key}"], "report": ["rows"]}  # a new row makes no other row stale
    assert STAGES[name]["params"] == [name, *rows.get(name, [])]
    assert name in PARAMS
    assert (ROOT / "configs" / name).is_dir()


def test_a_section_without_a_stage_is_one_that_stages_share() -> None:
    readers = [*(ROOT / "configs").rglob("*.yaml"), ROOT / "dvc.yaml"]
    configs = "".join(path.read_text() for path in readers)
    for section in PARAMS.keys() - STAGES.keys():
        assert f"${{{section}." in configs or f"${{{section}}}" in configs, f"nobody reads {section}"


@pytest.mark.parametrize("experiment", [None, *EXPERIMENTS])
def test_the_values_of_every_experiment_fit_the_stages(experiment: str | None) -> None:
    values = yaml.safe_load(compose.composed([f"experiment={experiment}"] if experiment else [], ROOT / "configs"))
    for name in STAGES:
        params = module(name).Params
        params.model_validate(values_of.section(values, name))


@each_stage
def test_a_stage_has_no_values_of_its_own(name: str) -> None:
    defaults = [field for field, info in module(name).Params.model_fields.items() if not info.is_required()]
    assert defaults == []


@each_stage
def test_the_command_line_is_the_signature(name: str) -> None:
    expected = {**stage.arguments(module(name).run), "stats": Path}
    assert list(options(name)) == [f"--{argument.replace('_', '-')}" for argument in expected]
    for argument, kind in expected.items():
        value = options(name)[f"--{argument.replace('_', '-')}"]
        is_item = value == "${key}" or value.startswith("${item.")
        assert is_item == (kind is str), f"{argument} is declared as {kind.__name__}"


@each_stage
def test_every_path_is_declared_and_every_declared_path_is_given(name: str) -> None:
    kinds = {**stage.arguments(module(name).run), "stats": Path}
    paths = {options(name)[f"--{argument.replace('_', '-')}"] for argument, kind in kinds.items() if kind is Path}
    read = set(declared(name, "deps")) - set(code_deps(name))
    written = set(declared(name, "outs") + declared(name, "metrics") + declared(name, "plots"))
    assert read | written == paths
    assert not read & written


@pytest.mark.parametrize("experiment", [None, *EXPERIMENTS])
def test_no_value_leads_a_stage_to_what_another_writes(experiment: str | None) -> None:
    """Such a path is an argument, which the graph sees."""
    values = yaml.safe_load(compose.composed([f"experiment={experiment}"] if experiment else [], ROOT / "configs"))
    written = [Path(place) for place in PAGES[0]["vars"][0]["path"].values()]
    for name in STAGES:
        for value_name, value in compose.leaves(values[name]):
            within = isinstance(value, str) and any(Path(value).is_relative_to(place) for place in written)
            assert not within, f"{name}.{value_name}: {value}"


@each_stage
def test_the_deps_name_all_the_code_a_stage_runs_and_none_beside(name: str) -> None:
    code, deps = run_by(name), code_deps(name)
    assert [path for path in code if not covered(path, deps)] == [], "not among the deps"
    assert [dep for dep in deps if not any(covered(path, [dep]) for path in code)] == [], "deps that are not run"


@pytest.mark.parametrize("name", [name for name, stage in STAGES.items() if "gpus" in stage.get("meta", {})])
def test_a_long_stage_names_a_room_only_if_it_runs_every_file_of_it(name: str) -> None:
    rooms = [ROOT / dep for dep in code_deps(name) if (ROOT / dep).is_dir()]
    files = {
        path.relative_to(ROOT).as_posix() for room in rooms for path in room.glob("*.py") if path.stem != "__init__"
    }
    assert files - run_by(name) == set()


@pytest.mark.parametrize(
    ("edited", "most"),
    [("instdiff/training/loop.py", 8), ("eval/scoring/columns.py", 12), ("instdiff/world/appearance.py", 10)],
)
def test_an_edit_makes_few_nodes_stale(edited: str, most: int) -> None:
    assert (ROOT / edited).is_file()
    stale = [name for name in PIPELINE if covered(edited, code_deps(name)) for _ in nodes(name)]
    assert 0 < len(stale) <= most


@each_stage
def test_a_stage_says_what_it_turns_into_what(name: str) -> None:
    assert " -> " in STAGES[name]["desc"]


def test_the_graph_is_a_page() -> None:
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 420


def run_by(name: str) -> set[str]:
    """The files of first-party modules that a stage runs."""
    return {resume.source(module).relative_to(ROOT).as_posix() for module in resume.modules(command(name)[2])}


def code_deps(name: str) -> list[str]:
    """Files and rooms of code; the other deps are data."""
    return [dep for dep in declared(name, "deps") if dep.partition("/")[0] in resume.PACKAGES]


def covered(path: str, deps: list[str]) -> bool:
    return any(path == dep or path.startswith(f"{dep}/") for dep in deps)


def nodes(name: str) -> list[str]:
    """What a stage is run for: each split, role or row, or once."""
    matrix = STAGES[name].get("matrix")
    return list(PARAMS["rows"]) if name in EACH_ROW else next(iter(matrix.values())) if matrix else [name]
