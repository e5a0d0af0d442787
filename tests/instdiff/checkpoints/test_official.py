"""Every key of the released files is accounted for, and nothing in a file is executed."""

import copy
import gzip
import json
import re
from pathlib import Path

import golden_cases as golden
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from golden_weights import equal
from malicious import Malicious
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from instdiff.checkpoints import comfyui, reading
from instdiff.checkpoints import official as checkpoint
from instdiff.model.unet import InstanceUNet
from instdiff.networks import weight_files

KEYS = json.loads(gzip.decompress((golden.FOLDER / "full_keys.json.gz").read_bytes()))


def meta(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def full_unet() -> InstanceUNet:
    with torch.device("meta"):
        sizes = checkpoint.OFFICIAL_UNIFUSION.model_dump()
        return InstanceUNet(**checkpoint.SD15_UNET, unifusion_config=sizes, scale_u=True)


def empty() -> InstanceUNet:
    """The golden network without weights."""
    with torch.device("meta"):
        return InstanceUNet(**golden.UNET, unifusion_config=golden.UNIFUSION.model_dump(), scale_u=True)


def test_every_key_of_the_released_unet_has_one_place_and_comes_back() -> None:
    unet = full_unet()
    checkpoint.load_unet(unet, meta(KEYS["model"]), "released")
    assert {name: list(tensor.shape) for name, tensor in checkpoint.official(unet).items()} == KEYS["model"]


def test_every_key_of_stable_diffusion_has_one_place() -> None:
    with torch.device("meta"):
        base = UNet2DConditionModel(**checkpoint.SD15_UNET)
        vae = AutoencoderKL(**checkpoint.SD15_VAE)
        text_encoder = CLIPTextModel(CLIPTextConfig(**checkpoint.SD15_TEXT))
    shapes = {name: KEYS["model"][name] for name in KEYS["sd15_unet_subset"]}
    prefixed = {
        **{f"model.diffusion_model.{name}": shape for name, shape in shapes.items()},
        **{f"first_stage_model.{name}": shape for name, shape in KEYS["autoencoder"].items()},
        **{f"cond_stage_model.{name}": shape for name, shape in KEYS["text_encoder"].items()},
        **{f"cond_stage_model.{name}": shape for name, shape in KEYS["text_encoder_optional_buffer_int64"].items()},
        **KEYS["diffusion"],
    }
    parts = reading.split({"state_dict": meta(prefixed)}, "sd")
    checkpoint.load_unet(base, parts["unet"], "sd")
    checkpoint.load_vae(vae, parts["vae"], "sd")
    checkpoint.load_text_encoder(text_encoder, parts["text_encoder"], "sd")
    assert not any(tensor.is_meta is False for tensor in base.state_dict().values())


def test_every_fuser_of_gligen_has_its_place_and_one_that_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fusers = {name: shape for name, shape in KEYS["model"].items() if ".fuser." in name}  # as in the released model
    base = {name: KEYS["model"][name] for name in KEYS["sd15_unet_subset"]}
    held = meta({**base, **fusers, "position_net.linears.0.weight": [512, 832]})
    monkeypatch.setattr(weight_files, "read", lambda _: {"model": held})
    unet = full_unet()
    assert len(fusers) == sum(".fuser." in name for name in unet.instance_layers())
    checkpoint.load_gligen_fusers(unet, Path("gligen.pth"))
    gone = next(iter(fusers))
    del held[gone]
    with pytest.raises(ValueError, match=rf"gligen\.pth: lacks 1 \({gone}\)"):
        checkpoint.load_gligen_fusers(unet, Path("gligen.pth"))


def test_weights_that_do_not_fit_are_listed_on_both_sides() -> None:
    weights = meta(KEYS["model"])
    weights["stray"] = weights.pop("scaleu_b_0")
    with pytest.raises(ValueError, match=r"x: lacks 1 \(scaleu_b_0\); holds, but is not known: 1 \(stray\)"):
        checkpoint.load_unet(full_unet(), weights, "x")


def test_weights_of_a_wrong_size_are_named() -> None:
    weights = {**meta(KEYS["model"]), "scaleu_s_3": torch.empty(2, device="meta")}
    with pytest.raises(ValueError, match=r"wrong sizes: 1 \(scaleu_s_3 \(2,\) instead of \(1,\)\)"):
        checkpoint.load_unet(full_unet(), weights, "x")


def test_the_port_keeps_names_of_diffusers_for_the_base() -> None:
    names = checkpoint.official(golden.unet(), port=True)
    assert "scaleu_b_0" in names
    assert "position_net.null_seg_feature" in names
    assert "down_blocks.0.attentions.0.transformer_blocks.0.fuser.alpha_attn" in names
    again = empty()
    checkpoint.load_unet(again, names, "port", port=True)
    assert equal(again.state_dict(), golden.unet().state_dict())


def test_averaged_weights_are_taken_where_there_are_any(tmp_path: Path) -> None:
    official = checkpoint.official(golden.unet())
    averaged = {name: tensor + 1 for name, tensor in official.items()}
    held = {"model": official, "ema": averaged, "autoencoder": {"a": torch.zeros(1)}, "iters": 3, "opt": {}}
    torch.save(held, tmp_path / "released.pth")
    released = reading.read(tmp_path / "released.pth")
    assert list(released.vae) == ["a"]
    assert equal({**released.unet, **released.layers}, averaged)


def test_a_configuration_beside_the_weights_is_read_past(tmp_path: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create({"model": {"target": "a.b", "params": {"x": [1, 2.5, None, True]}}})
    held = {"model": {"weight": torch.ones(2)}, "config_dict": vars(config)}
    torch.save(held, tmp_path / "released.pth")
    assert torch.equal(
        reading.split(weight_files.read(tmp_path / "released.pth"), "x")["unet"]["weight"], torch.ones(2)
    )


def test_a_written_official_file_is_read_back(tmp_path: Path) -> None:
    checkpoint.write_official(golden.unet(), tmp_path / "official.pth")
    again, written = empty(), reading.read(tmp_path / "official.pth")
    checkpoint.load_base(again, written.unet, "official.pth")
    checkpoint.load_instance_layers(again, written.layers, "official.pth")
    assert equal(again.state_dict(), golden.unet().state_dict())


def test_the_three_files_of_comfyui_hold_the_instance_layers(tmp_path: Path) -> None:
    comfyui.write(golden.unet(), tmp_path / "comfy")
    fusers = weight_files.read(tmp_path / "comfy" / "fusers.ckpt")
    assert list(fusers["input_blocks"]) == ["1", "2", "4", "5"]
    assert fusers["middle_block"]["1"]["params"] == {"context_dim": 64, "n_heads": 4, "d_head": 16}
    assert list(weight_files.read(tmp_path / "comfy" / "scaleu.ckpt")["8"]) == ["scaleu_b", "scaleu_s"]
    weights = comfyui.read(tmp_path / "comfy")
    official = checkpoint.official(golden.unet())
    assert all(torch.equal(official[name], tensor) for name, tensor in weights.items())
    unet = copy.deepcopy(golden.unet())
    with torch.no_grad():
        for parameter in unet.instance_layers().values():
            parameter.zero_()
    checkpoint.load_instance_layers(unet, weights, "comfy")
    assert equal(checkpoint.official(unet), official)


@pytest.mark.parametrize("part", [{"model": torch.zeros(2)}, {"model": {"a": 1}}, {"state_dict": [1]}])
def test_a_part_that_holds_no_named_tensors_is_told_so(part: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="should hold named tensors and does not"):
        reading.split(part, "odd")


def test_a_malicious_file_is_refused_and_not_executed(tmp_path: Path) -> None:
    torch.save({"model": {}, "config_dict": Malicious(f"touch {tmp_path / 'executed'}")}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth: refused"):
        weight_files.read(tmp_path / "evil.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["noise.ckpt", "noise.safetensors"])
def test_a_file_of_noise_gets_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no weights at all" * 9)
    with pytest.raises(ValueError, match=re.escape(name)):
        weight_files.read(tmp_path / name)


def test_a_file_of_something_else_is_told_so(tmp_path: Path) -> None:
    save_file({"some.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"neither an InstanceDiffusion nor a Stable Diffusion 1\.5 checkpoint"):
        reading.split(weight_files.read(tmp_path / "other.safetensors"), "other")
