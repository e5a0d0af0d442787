"""Compile configs/ into params.yaml, as `python -m instdiff.config` does.

configs/ is where values live; params.yaml is what DVC compares and stages read. Values are composed aside, checked
against each stage's `Params`, and written only then. `dvc exp run -S ...` composes the same way and writes the same
bytes; `dvc repro` composes nothing, so this runs before it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from instdiff.config import values
from instdiff.files import atomic, value_faults
from instdiff.files.texts import one_line

CONFIGS = Path("configs")
PARAMS = Path("params.yaml")
QUOTE = """text with , ' { = # or $ is quoted twice, as in "caption.template='a {colour}, {category}'\""""


def composed(overrides: list[str], configs: Path = CONFIGS) -> str:
    """The YAML text of configs/ with Hydra's overrides applied and every interpolation resolved.

    Raises:
        ValueError: a sentence about the override that names a group, file or value that is not there, or is none.
    """
    try:
        with initialize_config_dir(str(configs.resolve()), version_base=None):
            config = compose("config", overrides)
        OmegaConf.resolve(config)
    except yaml.YAMLError as error:
        raise ValueError(f"{configs}: {one_line(error)}") from error
    except (HydraException, OmegaConfBaseException) as error:
        fault = next((why for word in overrides if (why := _fault(word, configs))), None)
        raise ValueError(fault or f"{configs}: {str(error).splitlines()[0]}") from error
    return OmegaConf.to_yaml(config)


def check(text: str, configs: Path = CONFIGS) -> None:
    """Check composed values against the `Params` of each stage, and those that stages share against configs/.

    Raises:
        ValueError: one sentence for each value that is wrong.
    """
    sections = yaml.safe_load(text)
    values.check(sections)
    there = yaml.safe_load(composed([], configs))
    stages = values.modules()
    shared = {name: value for name, value in leaves(sections) if name.partition(".")[0] not in stages}
    defaults = dict(leaves(there))
    for name, value in shared.items():
        if name not in defaults:
            raise ValueError(f"{name}: no such value{value_faults.suggestion(name, defaults)}")
        if None not in (value, defaults[name]) and not isinstance(value, type(defaults[name])):
            raise ValueError(f"{name}: should be like {defaults[name]!r}, not {value!r}")


def write(text: str) -> None:
    """Write params.yaml, unless it already says the same."""
    if not PARAMS.is_file() or PARAMS.read_text(encoding="utf-8") != text:
        with atomic.file(PARAMS) as part:
            part.write_text(text, encoding="utf-8")


def compile_params(overrides: list[str]) -> None:
    """Compose, check, and write params.yaml only then.

    Raises:
        ValueError: as `composed` and `check`.
    """
    text = composed(overrides)
    check(text)
    write(text)


def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of everything that is no mapping."""
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _fault(word: str, configs: Path) -> str | None:
    """What is wrong with one override, if it is wrong by itself."""
    shown = " ".join(word.split())
    try:
        (override,) = OverridesParser.create().parse_overrides([word])
    except HydraException:
        return f"{shown}: not understood; values are given as name=value, and {QUOTE}"
    if override.is_sweep_override():
        return f"{shown}: a run has one value of each name, not several; a list is [a,b], and {QUOTE}"
    name, value = override.key_or_group, override.value()
    if (configs / name).is_dir():
        fault = _no_file(configs / name, value)
    else:
        fault = _borrowed(name, configs) or (None if override.is_add() else _no_value(name, configs))
    if fault is None and isinstance(value, str) and "${" in value:
        fault = "${...} names a value that is not there; a dollar sign itself is written \\$"
    return fault and f"{shown}: {fault}"


def _no_file(folder: Path, name: object) -> str | None:
    files = sorted(path.stem for path in folder.glob("*.yaml"))
    if name in (None, *files):
        return None
    return f"{folder} has {', '.join(files)}{value_faults.suggestion(str(name), files)}"


def _no_value(name: str, configs: Path) -> str | None:
    names = [leaf for leaf, _ in leaves(yaml.safe_load(composed([], configs)))]
    nodes = {".".join(leaf.split(".")[:depth]) for leaf in names for depth in range(1, leaf.count(".") + 2)}
    groups = [path.name for path in configs.iterdir() if path.is_dir()]
    return None if name in nodes else f"no such value{value_faults.suggestion(name, [*nodes, *groups])}"


def _borrowed(name: str, configs: Path) -> str | None:
    """Where a value is to be set that belongs to a group which is another one, such as `${work}`."""
    with initialize_config_dir(str(configs.resolve()), version_base=None):
        node: Any = OmegaConf.to_container(compose("config", []))  # interpolations as they are written
    *groups, _ = name.split(".")
    for depth, group in enumerate(groups, start=1):
        node = node.get(group) if isinstance(node, Mapping) else None
        if isinstance(node, str) and node.startswith("${"):
            source, rest = node.strip("${}"), name.split(".")[depth:]
            return f"{'.'.join(groups[:depth])} is {source}: set {'.'.join([source, *rest])}"
    return None
