"""The tiny pipeline's weights in every form that weights are published in."""

import json
from pathlib import Path
from typing import Any

import coco_world
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_pipeline import TOKENIZER, base, shared
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from instdiff.checkpoints import comfyui, key_tables, official
from instdiff.checkpoints.sizes import Sizes


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


def clip_of(folder: Path) -> CLIPModel:
    """A random CLIP with heads as wide as OpenCLIP's."""
    words = CLIPTokenizer.from_pretrained(TOKENIZER)
    tower = {"hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 1}
    tower |= {"projection_dim": 24, "hidden_act": "gelu"}
    ids = {f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    text = {**tower, **ids, "vocab_size": len(words), "max_position_embeddings": 40}
    torch.manual_seed(0)
    model = CLIPModel(
        CLIPConfig(text_config=text, vision_config={**tower, "image_size": 16, "patch_size": 8}, projection_dim=24)
    ).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return model


def yolo(path: Path) -> Path:
    """A YOLOv8-seg of COCO's classes in the sample, with random weights, as ultralytics saves one."""
    opens = Image.open
    from ultralytics.nn.tasks import SegmentationModel

    Image.open = opens  # it leaves one in its place that installs packages when a picture cannot be read
    torch.manual_seed(0)
    model = SegmentationModel("yolov8n-seg.yaml", nc=3, verbose=False)
    model.names = {place: category["name"] for place, category in enumerate(coco_world.CATEGORIES)}
    with torch.no_grad():
        for head in model.model[-1].cv3:
            head[-1].bias += 2.0  # or it finds nothing
    torch.save({"model": model.half(), "ema": None, "train_args": {"task": "segment"}}, path)
    return path
