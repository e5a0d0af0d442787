"""The client and the real worker's protocol, with a model that stands in for LAVIS and can be told to fail."""

import importlib.metadata
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from data_world import CAPTION, prepared, sources
from data_world import tables as tables_of

from data_prep import caption
from data_prep.annotators import lavis_client, lavis_worker
from data_prep.annotators.crops import ModelParams, Pixels
from data_prep.columns import CAPTIONS
from instdiff.files import tables
from instdiff.isolated import line_worker
from instdiff.work.outcomes import Failure, outcomes

STAND_IN = """
import base64, io, os
from PIL import Image

print("chatter on stdout is harmless")

class Model:
    hello = {"lavis": "none", "model": "parrot"}
    def __init__(self, path, precision):
        self.given = path, precision
        if "broken" in open(path).read():
            raise ValueError("no such architecture")
    def answer(self, question):
        crops = [Image.open(io.BytesIO(base64.b64decode(one))) for one in question["crops"]]
        for one in crops:
            match one.size:
                case (1, 1): print("last words", flush=True); os._exit(9)
                case (2, 1): raise MemoryError("too much")
                case (3, 1): raise KeyError("odd")
                case (4, 1): return {"captions": [f"{question['num_beams']} {question['max_tokens']} {self.given}"]}
        return {"captions": [f" {question['prompt']} {one.width}x{one.height} " for one in crops]}

load = Model
"""


@pytest.fixture
def params(tmp_path: Path) -> ModelParams:
    (tmp_path / "model.yaml").write_text("model: {arch: parrot}\n")
    return ModelParams(
        weights=tmp_path / "model.yaml",
        python=Path(sys.executable),
        prompt="a",
        num_beams=1,
        max_tokens=5,
        precision="float32",
        min_area=0,
        name_category=False,
        device="cpu",
    )


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "worker.py").write_text(STAND_IN)
    return tmp_path / "worker.py"


def picture(width: int, height: int) -> Pixels:
    return np.zeros((height, width, 3), np.uint8)


def test_a_batch_is_a_question_and_its_answers_come_in_order(params: ModelParams, script: Path) -> None:
    worker = lavis_client.Lavis(params, script)
    assert worker.describe([picture(8, 4), picture(5, 6)]) == ["a 8x4", "a 5x6"]
    assert worker.describe([picture(7, 7)]) == ["a 7x7"]
    assert worker.name.startswith("lavis-none:parrot@")


def test_death_is_reported_and_survived_and_costs_only_the_crop_it_died_of(params: ModelParams, script: Path) -> None:
    worker = lavis_client.Lavis(params, script)
    crops = [picture(8, 4), picture(1, 1), picture(2, 1), picture(3, 1), picture(5, 5)]
    done = [outcome for _, outcome in outcomes(crops, worker.describe, 5)]
    assert (done[0], done[4]) == ("a 8x4", "a 5x5")
    died, hungry, odd = done[1:4]
    assert isinstance(died, Failure)
    assert isinstance(hungry, Failure)
    assert isinstance(odd, Failure)
    assert "WorkerDied: the LAVIS worker ended with 9: chatter on stdout is harmless last words" in died.detail
    assert hungry.reason == "out_of_memory"
    assert "KeyError: 'odd'" in odd.detail


def test_a_worker_that_always_dies_ends_the_stage(params: ModelParams, script: Path) -> None:
    worker = lavis_client.Lavis(params, script)
    with pytest.raises(line_worker.WorkerLost, match="3 times in a row"):
        list(outcomes([picture(1, 1)] * 9, worker.describe, 1))


def test_deaths_in_a_row_end_the_stage_and_an_answer_between_them_starts_anew(
    params: ModelParams, script: Path
) -> None:
    worker = lavis_client.Lavis(params, script)
    fatal, fine = [picture(1, 1)], [picture(8, 4)]
    for _ in range(line_worker.DEATHS - 1):
        with pytest.raises(line_worker.WorkerDied):
            worker.describe(fatal)
    assert worker.describe(fine) == ["a 8x4"]
    for _ in range(line_worker.DEATHS - 1):
        with pytest.raises(line_worker.WorkerDied):
            worker.describe(fatal)
    with pytest.raises(line_worker.WorkerLost):
        worker.describe(fatal)


def test_each_value_of_a_model_reaches_the_worker(params: ModelParams, script: Path) -> None:
    how = params.model_copy(update={"num_beams": 4, "max_tokens": 9, "precision": "bfloat16"})
    assert lavis_client.Lavis(how, script).describe([picture(4, 1)]) == [f"4 9 {(str(params.weights), 'bfloat16')}"]


def test_a_worker_that_does_not_start_says_why(params: ModelParams, script: Path) -> None:
    params.weights.write_text("broken")
    with pytest.raises(line_worker.WorkerDied, match="no such architecture"):
        lavis_client.Lavis(params, script)
    with pytest.raises(ValueError, match="make lavis"):
        lavis_client.Lavis(params.model_copy(update={"python": None}))


def test_the_worker_never_takes_our_own_module_for_lavis(params: ModelParams) -> None:
    with pytest.raises(line_worker.WorkerDied, match="No module named 'lavis'$"):  # this environment has none
        lavis_client.Lavis(params)


def test_the_stage_records_the_worker(
    tmp_path: Path, params: ModelParams, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path)
    monkeypatch.setattr(lavis_worker, "__file__", str(script))
    monkeypatch.setattr(lavis_client.Lavis.__init__, "__defaults__", (script,))
    how = CAPTION.model_copy(update={"backend": "lavis", "model": params})
    to = {**tables_of(tmp_path, "train", "instances", "captions"), "ledger": tmp_path / "ledger.parquet"}
    assert caption.run(**sources(tmp_path), **to, params=how)["failed"] == 0
    captions = tables.read(to["captions"], CAPTIONS)
    assert captions["caption"].str.fullmatch(r"a \d+x\d+").all()
    assert captions["backend"].str.startswith("lavis-").all()


class Told:
    """A LAVIS captioner as far as the worker knows one: it answers with its prompt."""

    prompt = "its own"

    def generate(self, samples: dict[str, torch.Tensor], num_beams: int, max_length: int) -> list[str]:
        assert samples.keys() == {"image"}
        return [f"{self.prompt} {num_beams} {max_length}"] * len(samples["image"])


def test_lavis_models_are_told_the_prompt_where_all_of_them_look_for_it() -> None:
    model = lavis_worker.Model.__new__(lavis_worker.Model)
    model.torch, model.device, model.dtype, model.model = torch, "cpu", torch.float32, Told()
    model.see = lambda picture: torch.zeros(3, *reversed(picture.size))
    question = {
        "crops": [line_worker.base64_png(np.zeros((4, 3, 3), np.uint8))] * 2,
        "prompt": "",
        "num_beams": 2,
        "max_tokens": 9,
    }
    assert model.answer(question) == {"captions": ["its own 2 9"] * 2}
    assert model.answer(question | {"prompt": "a photo of"}) == {"captions": ["a photo of 2 9"] * 2}


class Arch(torch.nn.Module):
    """In place of a LAVIS architecture: keeps the settings it is made of."""

    def __init__(self, settings: Any) -> None:
        super().__init__()
        self.weight, self.settings = torch.nn.Parameter(torch.zeros(1)), settings

    @classmethod
    def from_config(cls, settings: Any) -> "Arch":
        return cls(settings)


@pytest.mark.parametrize("version", ["1.0.2", None])
def test_a_worker_says_which_lavis_it_is_and_asks_the_model_and_the_eye_of_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    def version_of(name: str) -> str:
        assert name == "salesforce-lavis"
        if version is None:  # a copy of its code that nobody installed
            raise importlib.metadata.PackageNotFoundError
        return version

    registry = SimpleNamespace(get_model_class={"blip_caption": Arch}.__getitem__)
    eyes = {"train": "one that distorts", "eval": "plain"}
    modules = {
        "lavis.common.registry": {"registry": registry},
        "lavis.models": {"load_preprocess": lambda preprocess: ({name: eyes[name] for name in preprocess}, None)},
    }
    for name, content in modules.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**content))  # type: ignore[arg-type]
    monkeypatch.setattr(importlib.metadata, "version", version_of)
    (tmp_path / "model.yaml").write_text("model: {arch: blip_caption, size: 3}\npreprocess: {train: a, eval: b}\n")
    worker = lavis_worker.load(str(tmp_path / "model.yaml"), "float64")
    assert worker.hello == {"lavis": version or "none", "model": "blip_caption"}
    assert (worker.model.settings.size, worker.model.training, worker.model.weight.dtype) == (3, False, torch.float64)
    assert worker.see == "plain"
