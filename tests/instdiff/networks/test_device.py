"""One home for device, precision and compilation."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from data_prep.annotators.blip import Blip
from data_prep.annotators.crops import ModelParams
from instdiff.config import values
from instdiff.networks import clip, detector, device, inception, vae
from instdiff.networks.device import PLAIN, Place, arithmetic, place, resolve
from instdiff.networks.sam2 import Sam2
from instdiff.networks.sam_masks import SegmentAnything
from instdiff.sampling import generate

VALUES = yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text(encoding="utf-8"))
GENERATE = generate.Params.model_validate(values.section(VALUES, "generate"))
BLIP = ModelParams(
    weights=Path("w"),
    python=None,
    prompt="",
    num_beams=1,
    max_tokens=1,
    precision="float32",
    min_area=0,
    name_category=False,
    device="cpu",
)


def test_auto_is_the_gpu_that_is_there_or_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, expected in (({"cuda": 2}, "cuda"), ({"mps": 1}, "mps"), ({}, "cpu")):
        counts = {kind: lambda there=there, kind=kind: there.get(kind, 0) for kind in ("cuda", "mps", "xpu")}
        monkeypatch.setattr(device, "_COUNTS", counts)
        assert resolve("auto") == torch.device(expected)


@pytest.mark.parametrize("name", ["cuda:7", "mps:3", "gpu", "meta"])
def test_a_device_that_is_not_there_is_a_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_COUNTS", {"cuda": lambda: 2, "mps": lambda: 0})
    with pytest.raises(ValueError, match=r"take cpu or cuda:0 or cuda:1$"):
        resolve(name)


def test_a_network_is_in_the_precision_and_order_that_are_asked_for() -> None:
    where = PLAIN.model_copy(update={"precision": "bfloat16", "channels_last": True})
    network = place(nn.Conv2d(4, 8, 3), where)
    assert network.weight.dtype == torch.bfloat16
    assert network.weight.is_contiguous(memory_format=torch.channels_last)


def test_training_reckons_in_the_precision_that_is_asked_for_and_never_in_float16() -> None:
    x = torch.ones(2, 2)
    with arithmetic(PLAIN):
        assert (x @ x).dtype == torch.float32
    with arithmetic(PLAIN.model_copy(update={"precision": "bfloat16"})):
        assert (x @ x).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="float16 is for drawing"):
        arithmetic(PLAIN.model_copy(update={"precision": "float16"}))


def test_what_auto_came_to_and_tf32_are_settled_for_the_process() -> None:
    try:
        assert Place(**PLAIN.model_dump() | {"tf32": True}).settled().name == "cpu"
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        PLAIN.settled()
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    "load",
    [
        clip.load,
        clip.load_text,
        detector.load,
        inception.load,
        vae.load,
        lambda folder, where: SegmentAnything(folder, 1, where),
        lambda folder, where: Sam2(folder, 1, where),
        lambda folder, where: Blip(BLIP.model_copy(update={"weights": folder, "device": where.name})),
        lambda folder, where: generate.load(
            text=folder,
            vae_folder=folder,
            unet=folder,
            instance=folder,
            params=GENERATE.model_copy(update={"device": where}),
        ),
    ],
)
def test_a_device_that_is_not_there_is_a_sentence_before_anything_is_read(load: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^torch sees no device 'cuda:99' on this machine"):
        load(tmp_path / "nothing", PLAIN.model_copy(update={"name": "cuda:99"}))


def test_a_record_names_the_model_of_a_gpu_and_the_cpu_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: f"model of {place}")
    assert device.kind_of(torch.device("cuda:1")) == "model of cuda:1"
    assert device.kind_of(torch.device("cpu")) == "cpu"
