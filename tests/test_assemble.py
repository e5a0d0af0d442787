"""A pipeline comes of weights in every form they are published in, and of no others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_pipeline import SIZES, TOKENIZER, base, shared
from torch import Tensor

from instdiff.checkpoints import assemble, comfyui, key_tables, official
from instdiff.checkpoints.sizes import Sizes, unifusion_sizes
from instdiff.sampling.pipeline import InstanceDiffusionPipeline


def sizes() -> Sizes:
    pipe = shared()

    def of(config: Any) -> dict[str, Any]:
        return {name: value for name, value in config.items() if not name.startswith("_")}

    return Sizes(of(base().config), of(pipe.vae.config), pipe.text_encoder.config.to_dict())


def official_parts() -> dict[str, dict[str, Tensor]]:
    """The tiny networks under the released names: UNet, VAE and text encoder."""
    pipe = shared()
    vae = {key_tables.official_vae(name, 2): tensor for name, tensor in pipe.vae.state_dict().items()}
    text = {key_tables.official_text(name): tensor for name, tensor in pipe.text_encoder.state_dict().items()}
    unet = {name: tensor.contiguous() for name, tensor in official.official(pipe.unet).items()}
    return {"model": unet, "autoencoder": vae, "text_encoder": text}


def plain_unet() -> dict[str, Tensor]:
    return {n: t for n, t in official_parts()["model"].items() if not official.is_instance_layer(n)}


def stable_diffusion() -> dict[str, Tensor]:
    """One flat file, as Stable Diffusion 1.5 is published."""
    prefixes = {
        "model.diffusion_model.": plain_unet(),
        "first_stage_model.": official_parts()["autoencoder"],
        "cond_stage_model.": official_parts()["text_encoder"],
    }
    return {f"{prefix}{name}": tensor.clone() for prefix, part in prefixes.items() for name, tensor in part.items()}


def same(pipe: InstanceDiffusionPipeline) -> bool:
    pairs = [(getattr(pipe, name), getattr(shared(), name)) for name in ("unet", "vae", "text_encoder")]
    return all(
        torch.equal(tensor, other.state_dict()[name])
        for one, other in pairs
        for name, tensor in one.state_dict().items()
    )


def released(folder: Path) -> Path:
    torch.save({**official_parts(), "iters": 3, "opt": {}}, folder / "released.pth")
    return folder / "released.pth"


def port(folder: Path) -> Path:
    """A folder of diffusers whose UNet holds the instance layers under the port's names."""
    shared().save_pretrained(folder)
    config = {**base().config, "_class_name": "UNet2DConditionModel", "attention_type": "gated"}
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    weights = {name: tensor.contiguous() for name, tensor in official.official(shared().unet, port=True).items()}
    save_file(weights, folder / "unet" / "diffusion_pytorch_model.safetensors")
    return folder


def foundation(folder: Path) -> Path:
    pipe = shared()
    pipe.vae.save_pretrained(folder / "vae")
    pipe.text_encoder.save_pretrained(folder / "clip" / "text")
    pipe.tokenizer.save_pretrained(folder / "clip" / "text")
    own = pipe.unet.state_dict()
    plain = base()
    plain.load_state_dict({name: own[name] for name in plain.state_dict()})
    plain.save_pretrained(folder / "unet")
    return folder


def ours(folder: Path) -> Path:
    shared().save_pretrained(folder)
    return folder


def one_file(folder: Path) -> Path:
    save_file(stable_diffusion(), folder / "sd.safetensors")
    return folder / "sd.safetensors"


def pickled(folder: Path) -> Path:
    torch.save({"state_dict": stable_diffusion(), "global_step": 5}, folder / "sd.ckpt")
    return folder / "sd.ckpt"


def layers(folder: Path) -> Path:
    shared().unet.save_instance_layers(folder / "instance" / "layers")
    return folder / "instance"


def three_files(folder: Path) -> Path:
    comfyui.write(shared().unet, folder / "comfy")
    return folder / "comfy"


Write = Callable[[Path], Path]


@pytest.mark.parametrize("write", [released, port, ours])
def test_weights_with_instance_layers_make_a_pipeline(tmp_path: Path, write: Write) -> None:
    assert same(assemble.pipeline(write(tmp_path), tokenizer=TOKENIZER, file_sizes=sizes()))


@pytest.mark.parametrize(
    ("write", "instance"), [(foundation, layers), (one_file, released), (pickled, three_files), (one_file, layers)]
)
def test_a_plain_base_takes_its_instance_layers_from_elsewhere(tmp_path: Path, write: Write, instance: Write) -> None:
    pipe = assemble.pipeline(write(tmp_path), instance=instance(tmp_path), tokenizer=TOKENIZER, file_sizes=sizes())
    assert same(pipe)


def test_sizes_of_unifusion_are_those_its_weights_tell() -> None:
    assert unifusion_sizes(official_parts()["model"], "x") == SIZES


def empty(folder: Path) -> Path:
    return folder


def noise(folder: Path) -> Path:
    (folder / "noise.ckpt").write_bytes(b"no weights at all" * 9)
    return folder / "noise.ckpt"


def without_vae(folder: Path) -> Path:
    torch.save({"model": official_parts()["model"]}, folder / "unet.pth")
    return folder / "unet.pth"


@pytest.mark.parametrize(
    ("write", "given", "says"),
    [
        (empty, {}, "neither a file of weights, nor a folder"),
        (noise, {}, "is text, not weights; it begins with .no weights at all"),
        (without_vae, {}, "holds no weights of vae and text_encoder"),
        (released, {}, "weights hold no words"),
        (one_file, {"tokenizer": TOKENIZER}, "a plain base without instance layers"),
        (foundation, {}, "a plain base without instance layers"),
        (foundation, {"instance": TOKENIZER}, "instance_layers.safetensors .layers of ours. or fusers.ckpt"),
        (ours, {"instance": TOKENIZER}, "has instance layers of its own"),
    ],
)
def test_weights_that_will_not_do_are_told_what_they_lack(
    tmp_path: Path, write: Write, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        assemble.pipeline(write(tmp_path), file_sizes=sizes(), **given)
