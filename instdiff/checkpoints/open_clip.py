"""A CLIP in OpenCLIP's file, as transformers' CLIPModel: names by table, sizes by the shapes of the weights.

OpenCLIP keeps query, key and value in one matrix and writes its projections the other way round. Its heads are 64 wide
and its activation is GELU; OpenAI's own models (QuickGELU) are published in transformers' form, too.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from instdiff.networks import loading

HEAD = 64
_OUTER = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "visual.proj": "visual_projection.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
}
_INNER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
_IGNORED = {"attn_mask"}  # a triangle of ones


def model(weights: Mapping[str, Tensor], tokenizer: CLIPTokenizer, source: str) -> CLIPModel:
    """The CLIP of these weights; ValueError says what is missing or not known, on both sides."""
    config = CLIPConfig(**sizes(weights, tokenizer, source))
    model = CLIPModel(config)
    own = renamed(weights)
    wanted = model.state_dict()
    loading.refuse_not_finite(own, source)
    missing, unknown = wanted.keys() - own.keys(), own.keys() - wanted.keys()
    if missing or unknown:
        raise ValueError(f"{source}: not an OpenCLIP: lacks {sorted(missing)[:5]}; not known: {sorted(unknown)[:5]}")
    model.load_state_dict(own)
    return model.requires_grad_(False).eval()


def sizes(weights: Mapping[str, Tensor], tokenizer: CLIPTokenizer, source: str) -> dict[str, Any]:
    """Transformers' configuration; ValueError where a weight that tells a size is not there."""
    try:
        shared = weights["text_projection"].shape[1]
        width, patch = weights["visual.conv1.weight"].shape[0], weights["visual.conv1.weight"].shape[-1]
        cells = weights["visual.positional_embedding"].shape[0] - 1
        vocabulary, text_width = weights["token_embedding.weight"].shape
        vision = {"image_size": int(cells**0.5) * patch, "patch_size": patch}
        text = {
            "vocab_size": vocabulary,
            "max_position_embeddings": weights["positional_embedding"].shape[0],
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        vision |= _tower(weights, "visual.transformer.", width, shared)
        return {
            "projection_dim": shared,
            "vision_config": vision,
            "text_config": text | _tower(weights, "transformer.", text_width, shared),
        }
    except (KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"{source}: not the weights of an OpenCLIP ({error} is not there)") from error


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under transformers' names; a name that is not OpenCLIP's stays as it is."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        block = _BLOCK.fullmatch(name)
        if name in _IGNORED:
            continue
        if block is None:
            outer, _, kind = name.rpartition(".")
            ours = _OUTER.get(name) or (f"{_OUTER[outer]}.{kind}" if outer in _OUTER else name)
            renamed[ours] = tensor.T.contiguous() if name in {"visual.proj", "text_projection"} else tensor
        else:
            renamed |= _inner(block, tensor)
    return renamed


def _inner(block: re.Match[str], tensor: Tensor) -> dict[str, Tensor]:
    """A weight of a transformer block."""
    tower = "vision_model" if block[1] else "text_model"
    prefix, rest = f"{tower}.encoder.layers.{block[2]}", block[3]
    if rest.startswith("attn.in_proj_"):
        kind = rest.removeprefix("attn.in_proj_")
        parts = zip("qkv", torch.chunk(tensor, 3), strict=True)
        return {f"{prefix}.self_attn.{letter}_proj.{kind}": part.clone() for letter, part in parts}
    inner, _, kind = rest.rpartition(".")
    return {f"{prefix}.{_INNER.get(inner, inner)}.{kind}": tensor}


def _tower(weights: Mapping[str, Tensor], prefix: str, width: int, shared: int) -> dict[str, Any]:
    blocks = f"{prefix}resblocks."
    depth = len({name.removeprefix(blocks).partition(".")[0] for name in weights if name.startswith(blocks)})
    return {
        "hidden_size": width,
        "intermediate_size": weights[f"{blocks}0.mlp.c_fc.weight"].shape[0],
        "num_hidden_layers": depth,
        "num_attention_heads": max(1, width // HEAD),
        "projection_dim": shared,
        "hidden_act": "gelu",
    }
