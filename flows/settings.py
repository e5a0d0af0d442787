"""configs/deployments.yaml: what is served, when it runs, and what becomes of a finished run."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from instdiff.schema import Strict

PATH = Path("configs/deployments.yaml")


class Deployment(Strict):
    """One button of the UI."""

    targets: list[str]  # the stages it brings up to date, with all they rest on; every stage when empty
    experiment: str  # a file of configs/experiment, or `default`
    overrides: list[str]  # Hydra's
    schedule: str | None  # cron; by hand alone when absent
    timezone: str


class Settings(Strict):
    """The whole file."""

    push: str | None  # the Git remote that experiments go to; their files go to DVC's default remote
    message: str | None  # a Prefect notification block as kind/name, told when a metric falls
    deployments: dict[str, Deployment]


def read(path: Path = PATH) -> Settings:
    """The settings; ValueError names the file and the field that is wrong."""
    try:
        return Settings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error
