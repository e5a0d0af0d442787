"""configs/deployments.yaml: what is served, when it runs, and what becomes of a finished run."""

from pathlib import Path
from typing import Self

import yaml
from pydantic import ValidationError, model_validator

from instdiff.files import value_faults
from instdiff.schema import Strict

PATH = Path("configs/deployments.yaml")
NAMES = {"cron": 'five fields, e.g. "0 3 * * *"', "timezone": "UTC, or a name such as Europe/Berlin"}


class Deployment(Strict):
    """One button of the UI."""

    targets: list[str]  # the stages it brings up to date, with all they rest on; every stage when empty
    experiment: str  # a file of configs/experiment, or `default`
    overrides: list[str]  # Hydra's
    schedule: str | None  # cron; by hand alone when absent
    timezone: str

    @model_validator(mode="after")
    def _has_a_time(self) -> Self:
        from prefect.client.schemas.schedules import CronSchedule  # reads its settings from the environment

        try:
            CronSchedule(cron=self.schedule or "0 0 * * *", timezone=self.timezone)
        except ValidationError as error:
            fault = error.errors()[0]
            raise ValueError(f"{fault['loc'][0]} {fault['input']!r} is none: {NAMES[str(fault['loc'][0])]}") from None
        return self


class Settings(Strict):
    """The whole file."""

    push: str | None  # the Git remote that experiments go to; their files go to DVC's default remote
    message: str | None  # a Prefect notification block as kind/name, told when a metric falls
    deployments: dict[str, Deployment]


def read(path: Path = PATH) -> Settings:
    """The settings; ValueError names the file and the field that is wrong."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Settings.model_validate(content)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise ValueError(f"{path}: {'; '.join(value_faults.explained(error, '', content))}") from None
