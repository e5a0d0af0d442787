"""MiniCPM-V in its own environment: what its folder is loaded with, and how its own method is asked."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eval.answerers import minicpm_worker
from eval.answerers.answerer import DECODINGS, GREEDY, Decoding
from instdiff.isolated.line_worker import base64_png

SAMPLED = DECODINGS["minicpm-v-2.6"].model_copy(update={"seed": 9})
PIXELS = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)


class Network:
    """In place of both libraries' classes: keeps how it is loaded, seeded and asked, and counts its answers."""

    config = SimpleNamespace(model_type="minicpmv")

    def __init__(self) -> None:
        self.loads, self.asked, self.seeds, self.device = list[Any](), list[Any](), list[int](), ""

    def from_pretrained(self, weights: str, **options: object) -> "Network":
        self.loads.append((weights, options))
        return self

    def eval(self) -> "Network":
        return self

    def to(self, device: str) -> "Network":
        self.device = device
        return self

    def chat(self, **how: object) -> int:
        self.asked.append(how)
        return len(self.asked)


def loaded(monkeypatch: pytest.MonkeyPatch, has_gpu: bool = False) -> tuple[minicpm_worker.Model, Network]:
    network = Network()
    cuda = SimpleNamespace(is_available=lambda: has_gpu)
    torch = SimpleNamespace(float32="32 bits", cuda=cuda, manual_seed=network.seeds.append, __version__="2")
    transformers = SimpleNamespace(AutoModel=network, AutoTokenizer=network, __version__="4")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    return minicpm_worker.load("weights", "float32"), network


@pytest.mark.parametrize(("has_gpu", "device"), [(False, "cpu"), (True, "cuda")])
def test_the_network_comes_with_its_own_code_from_its_folder_alone(
    has_gpu: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, network = loaded(monkeypatch, has_gpu)
    options = {"trust_remote_code": True, "local_files_only": True}
    assert network.loads == [("weights", options | {"torch_dtype": "32 bits"}), ("weights", options)]
    assert (network.device, model.device) == (device, device)
    assert model.hello == {"model": "minicpmv", "versions": {"torch": "2", "transformers": "4"}}


@pytest.mark.parametrize(
    ("decoding", "how", "seeds"),
    [
        (GREEDY, {"sampling": False, "max_new_tokens": 512, "num_beams": 1, "repetition_penalty": 1}, []),
        (
            SAMPLED,
            {
                "sampling": True,
                "max_new_tokens": 512,
                "temperature": 0.7,
                "top_p": 0.8,
                "top_k": 100,
                "repetition_penalty": 1.05,
            },
            [9],
        ),
    ],
)
def test_a_greedy_answer_has_one_beam_and_a_sampled_one_its_numbers_and_its_seed(
    decoding: Decoding, how: dict[str, object], seeds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, network = loaded(monkeypatch)
    reply = model.answer(
        {
            "pictures": [base64_png(PIXELS)] * 2,
            "texts": ["Is it red?", "Is it round?"],
            "systems": ["", "Be brief."],
            "decoding": decoding.model_dump(),
        }
    )
    assert reply == {"answers": ["1", "2"]}
    assert network.seeds == seeds * 2
    plain, brief = network.asked
    for asked, text in ((plain, "Is it red?"), (brief, "Is it round?")):
        ((image, words),) = [message["content"] for message in asked.pop("msgs")]
        assert words == text and np.array_equal(np.asarray(image), PIXELS)
    shared = {"image": None, "tokenizer": network} | how
    assert (plain, brief) == (shared, shared | {"system_prompt": "Be brief."})
