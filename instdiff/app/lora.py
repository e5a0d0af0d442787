"""LoRA files of any common form, added to a pipeline: every matrix of one has its place here, or is counted as without.

Read are kohya's names (`lora_unet_...`), those of diffusers, old and new, and PEFT's. What LoRA is not (LoHa, LoKr,
DoRA) is refused: it would be left out in silence.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from instdiff.checkpoints import key_tables, reading
from instdiff.networks import loading, weight_files
from instdiff.sampling.pipeline import InstanceDiffusionPipeline, LoraFit

_PAIR = re.compile(r"(.+?)[._](?:lora[._](?:linear_layer\.)?)(down|up|A|B)(?:\.default)?(?:\.weight)?")
_OTHER_KINDS = {"hada_": "a LoHa", "lokr_": "a LoKr", "dora_scale": "a DoRA", "lora_mid": "a LoCon in Tucker form"}
_PREFIXES = {  # of a matrix's name -> the network
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "base_model.model.unet.": "unet",
    "base_model.model.text_encoder.": "text_encoder",
    "base_model.model.": "unet",
    "unet.": "unet",
    "text_encoder.": "text_encoder",
}


@dataclass(frozen=True)
class Update:
    """The low-rank update of one matrix: up @ down, scaled."""

    down: Tensor  # (rank, inputs, ...)
    up: Tensor  # (outputs, rank, ...)


def add(pipeline: InstanceDiffusionPipeline, file: Path, name: str) -> LoraFit:
    """Add the file as an adapter and say how much of it fits.

    ValueError where nothing fits, where a matrix has another size, and where the file is no LoRA.
    """
    weights = reading.named(weight_files.read(file), str(file), "it")
    updates = read(weights, str(file))
    places = places_of(pipeline)
    fitting = {place: update for key, update in updates.items() if (place := places.get(key))}
    if not fitting:
        raise ValueError(f"{file}: a LoRA for another model: none of {loading.listed(updates)} is in this one")
    wrong = []
    matched: dict[str, Tensor] = {}
    for (network, module), update in fitting.items():
        shaped = _like(update, getattr(pipeline, network).get_submodule(module))
        if shaped is None:
            wrong.append(f"{network}.{module}")
            continue
        matched |= {f"{network}.{module}.lora_A.weight": shaped.down, f"{network}.{module}.lora_B.weight": shaped.up}
    if wrong:
        raise ValueError(f"{file}: a LoRA for a model of other sizes: wrong sizes: {loading.listed(wrong)}")
    if any(key.startswith("unet.") for key in matched):
        pipeline.load_lora_into_unet(matched, None, pipeline.unet, adapter_name=name)
    if any(key.startswith("text_encoder.") for key in matched):
        pipeline.load_lora_into_text_encoder(matched, None, pipeline.text_encoder, adapter_name=name)
    fit = LoraFit(fitted=len(fitting), total=len(updates))
    pipeline.lora_fits[name] = fit
    if fit["fitted"] < fit["total"]:
        left = updates.keys() - {key for key in updates if key in places}
        warnings.warn(f"{file}: left out, as they have no place in this model: {loading.listed(left)}", stacklevel=2)
    return fit


def read(weights: Mapping[str, Tensor], source: str) -> dict[str, Update]:
    """The updates in a file by network and flat name of the matrix; ValueError where the file is no LoRA."""
    for mark, kind in _OTHER_KINDS.items():
        if any(mark in name for name in weights):
            raise ValueError(f"{source}: {kind}, which is not supported: only LoRA is")
    loading.refuse_not_finite(weights, source)
    halves: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, float] = {}
    strange = []
    for name, tensor in weights.items():
        if name.endswith(".alpha") and tensor.numel() == 1:
            alphas[_key(name.removesuffix(".alpha").removesuffix(".lora"))] = float(tensor)
        elif pair := _PAIR.fullmatch(name):
            halves.setdefault(_key(pair[1]), {})["down" if pair[2] in {"down", "A"} else "up"] = tensor
        else:
            strange.append(name)
    if not halves:
        raise ValueError(f"{source}: no LoRA: it holds {loading.listed(strange)}")
    if strange:
        raise ValueError(f"{source}: holds, beside a LoRA's matrices, what is not known: {loading.listed(strange)}")
    if lacking := [key for key, half in halves.items() if len(half) < 2]:
        raise ValueError(f"{source}: lacks one of the two matrices of {loading.listed(lacking)}")
    return {
        key: Update(half["down"], half["up"] * (alphas.get(key, half["down"].shape[0]) / half["down"].shape[0]))
        for key, half in halves.items()
    }


def places_of(pipeline: InstanceDiffusionPipeline) -> dict[str, tuple[str, str]]:
    """Network and name of every matrix that a LoRA may update, by the keys of all forms of names."""
    places: dict[str, tuple[str, str]] = {}
    shape = key_tables.shape_of(pipeline.unet.state_dict())
    for network in ("text_encoder", "unet"):
        for name, module in getattr(pipeline, network).named_modules():
            plain = name.removesuffix(".base_layer")
            if not isinstance(module, nn.Linear | nn.Conv2d) or ".lora_" in name:
                continue
            others = [plain, f"text_model.{plain}"]
            if network == "unet":
                others = [plain, key_tables.official_unet(f"{plain}.weight", shape).removesuffix(".weight")]
            places |= {_flat(network, other): (network, plain) for other in others}
    return places


def _key(name: str) -> str:
    """The key of a matrix's name in any form."""
    network, rest = "unet", name
    for prefix, of in _PREFIXES.items():
        if name.startswith(prefix):
            network, rest = of, name.removeprefix(prefix)
            break
    rest = re.sub(r"\.processor\.(to_\w+?)$", lambda m: f".{m[1]}" + (".0" if m[1] == "to_out" else ""), rest)
    return _flat(network, rest)


def _flat(network: str, name: str) -> str:
    return f"{network}.{name.replace('.', '_')}"


def _like(update: Update, module: nn.Module) -> Update | None:
    """The update in the shape of the module's weight, kernels of 1 x 1 as matrices; None for other sizes."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        return None
    down, up = (_of_rank(half, weight.ndim) for half in (update.down, update.up))
    is_fitting = down.shape[1:] == weight.shape[1:] and up.shape[:2] == (weight.shape[0], down.shape[0])
    return Update(down, up) if is_fitting and up.shape[2:] in {(), (1, 1)} else None


def _of_rank(half: Tensor, ndim: int) -> Tensor:
    if half.ndim == 4 and ndim == 2 and half.shape[2:] == torch.Size((1, 1)):
        return half[:, :, 0, 0]
    return half[:, :, None, None] if half.ndim == 2 and ndim == 4 else half
