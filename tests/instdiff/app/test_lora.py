"""A LoRA of any form of names changes what it is for, and one that is for nothing here is refused."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_pipeline import shared
from torch import Tensor, nn

from instdiff.app import lora
from instdiff.model.unet import InstanceUNet
from instdiff.sampling.pipeline import InstanceDiffusionPipeline

RANK, ALPHA = 2, 1.0
NAME = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
TEXT = "encoder.layers.0.self_attn.q_proj"
OFFICIAL = "middle_block.1.transformer_blocks.0.attn2.to_k"


def halves(outputs: int = 32, inputs: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(RANK, inputs, generator=generator), torch.randn(outputs, RANK, generator=generator)


def kohya(name: str = NAME, prefix: str = "lora_unet_", **size: int) -> dict[str, Tensor]:
    down, up = halves(**size)
    key = prefix + name.replace(".", "_")
    return {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(ALPHA)}


def by_suffixes(prefix: str, down: str, up: str, name: str = NAME) -> dict[str, Tensor]:
    halves_here = halves()
    return {f"{prefix}{name}{down}": halves_here[0], f"{prefix}{name}{up}": halves_here[1]}


FORMS = {
    "kohya": (kohya(), ALPHA / RANK),
    "kohya, official names": (kohya(OFFICIAL), ALPHA / RANK),
    "diffusers": (by_suffixes("unet.", ".lora_A.weight", ".lora_B.weight"), 1.0),
    "diffusers, before": (by_suffixes("unet.", ".lora.down.weight", ".lora.up.weight"), 1.0),
    "diffusers, processors": (
        by_suffixes("unet.", "_lora.down.weight", "_lora.up.weight", NAME.replace(".to_k", ".processor.to_k")),
        1.0,
    ),
    "peft": (by_suffixes("base_model.model.", ".lora_A.weight", ".lora_B.weight"), 1.0),
    "peft, named": (by_suffixes("base_model.model.unet.", ".lora_A.default.weight", ".lora_B.default.weight"), 1.0),
}


def pipeline() -> InstanceDiffusionPipeline:
    pipe = shared()
    parts = [copy.deepcopy(getattr(pipe, name)) for name in ("vae", "text_encoder", "unet")]
    return InstanceDiffusionPipeline(parts[0], parts[1], pipe.tokenizer, parts[2], pipe.scheduler)


def added(folder: Path, weights: dict[str, Tensor], pipe: InstanceDiffusionPipeline) -> lora.LoraFit:
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "x.safetensors")
    return lora.add(pipe, folder / "x.safetensors", "lora0")


@torch.no_grad()
def output(module: nn.Module, width: int = 16) -> Tensor:
    return module(torch.ones(1, width))  # type: ignore[no-any-return]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_names_updates_the_matrix_it_names(tmp_path: Path, form: str) -> None:
    weights, scale = FORMS[form]
    pipe = pipeline()
    before = output(pipe.unet.get_submodule(NAME))
    assert added(tmp_path, weights, pipe) == {"fitted": 1, "total": 1}
    down, up = halves()
    expected = before + scale * (torch.ones(1, 16) @ down.T @ up.T)
    assert torch.allclose(output(pipe.unet.get_submodule(NAME)), expected, atol=1e-5)
    assert pipe.lora_fits == {"lora0": {"fitted": 1, "total": 1}}


def test_text_encoder_and_kernels_are_updated_too_and_what_does_not_fit_is_counted(tmp_path: Path) -> None:
    pipe = pipeline()
    conv = "mid_block.resnets.0.conv1"
    down, up = torch.randn(RANK, 32, 3, 3), torch.randn(32, RANK, 1, 1)
    key = "lora_unet_" + conv.replace(".", "_")
    weights = {
        **kohya("text_model." + TEXT, "lora_te_", outputs=16),
        f"{key}.lora_down.weight": down,
        f"{key}.lora_up.weight": up,
        **kohya("down_blocks_9_attentions_0_to_k"),
    }
    before = output(pipe.text_encoder.get_submodule(TEXT))
    with pytest.warns(UserWarning, match=r"left out.*1 \(unet.down_blocks_9_attentions_0_to_k\)"):
        assert added(tmp_path, weights, pipe) == {"fitted": 2, "total": 3}
    assert not torch.allclose(output(pipe.text_encoder.get_submodule(TEXT)), before)
    x = torch.randn(1, 32, 4, 4)
    convolution = pipe.unet.get_submodule(conv)
    plain = shared().unet.get_submodule(conv)
    update = nn.functional.conv2d(nn.functional.conv2d(x, down, padding=1), up)
    with torch.no_grad():
        assert torch.allclose(convolution(x), plain(x) + update, atol=1e-4)


def test_two_files_add_up(tmp_path: Path) -> None:
    pipe = pipeline()
    added(tmp_path, kohya(), pipe)
    assert lora.add(pipe, tmp_path / "x.safetensors", "lora1") == {"fitted": 1, "total": 1}
    assert isinstance(pipe.unet, InstanceUNet)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (kohya("input_blocks_4_1_transformer_blocks_7_attn2_to_k"), "a LoRA for another model"),
        (by_suffixes("transformer.", ".lora_A.weight", ".lora_B.weight", "single.0.attn.to_q"), "for another model"),
        (kohya(outputs=640, inputs=768), r"of other sizes: wrong sizes: 1 \(unet\.mid_block"),
        (kohya(outputs=64), "of other sizes"),
        ({"lora_unet_x.hada_w1_a": torch.ones(2, 2)}, "a LoHa, which is not supported"),
        ({**kohya(), "lora_unet_x.dora_scale": torch.ones(2)}, "a DoRA, which is not supported"),
        ({"some.weight": torch.ones(2)}, r"no LoRA: it holds 1 \(some.weight\)"),
        ({**kohya(), "stray": torch.ones(2)}, r"what is not known: 1 \(stray\)"),
        (dict(list(kohya().items())[:1]), "lacks one of the two matrices"),
        ({name: tensor * float("nan") for name, tensor in kohya().items()}, "NaN or infinity in 3"),
    ],
)
def test_a_file_that_cannot_count_is_refused_and_changes_nothing(
    tmp_path: Path, weights: dict[str, Tensor], says: str
) -> None:
    pipe = pipeline()
    with pytest.raises(ValueError, match=says):
        added(tmp_path, weights, pipe)
    assert pipe.lora_fits == {}
    assert pipe.unet.state_dict().keys() == shared().unet.state_dict().keys()
