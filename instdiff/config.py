"""Compile configs/ into params.yaml: `python -m instdiff.config [experiment=smoke train.steps=100 ...]`.

configs/ is where values live; params.yaml is what DVC compares and stages read. `dvc exp run -S ...` composes the same
way and writes the same bytes; `dvc repro` composes nothing, so this runs before it.
"""

import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf

from instdiff import atomic

CONFIGS = Path("configs")
PARAMS = Path("params.yaml")


def composed(overrides: list[str], configs: Path = CONFIGS) -> str:
    """The YAML text of configs/ with Hydra's overrides applied and every interpolation resolved.

    Raises:
        ValueError: an override names a group, file or key that is not there.
    """
    try:
        with initialize_config_dir(str(configs.resolve()), version_base=None):
            config = compose("config", overrides)
    except HydraException as error:
        raise ValueError(f"{configs}: {error}") from error
    OmegaConf.resolve(config)
    return OmegaConf.to_yaml(config)


def compile_params(overrides: list[str]) -> None:
    """Write params.yaml, unless it already says the same."""
    text = composed(overrides)
    if not PARAMS.is_file() or PARAMS.read_text() != text:
        with atomic.file(PARAMS) as part:
            part.write_text(text)


if __name__ == "__main__":
    try:
        compile_params(sys.argv[1:])
    except ValueError as error:
        sys.exit(str(error))
