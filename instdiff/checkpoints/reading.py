"""Weights of every published form, read into one: networks under official names, whatever the file or folder was."""

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from instdiff.checkpoints import comfyui, key_tables, sizes
from instdiff.checkpoints.official import Weights, is_instance_layer
from instdiff.checkpoints.sizes import Sizes
from instdiff.layouts.formats import RELEASED
from instdiff.model.drawing import AS_RELEASED, Drawing
from instdiff.model.noise_schedule import BETA_END, BETA_START, NUM_TIMESTEPS, PREDICTIONS, Prediction
from instdiff.model.unet import CONFIG_FILE, WEIGHTS_FILE, layers_config
from instdiff.networks import loading, weight_files

INDEX = "model_index.json"
_DIFFUSERS = {"unet": "unet", "vae": "vae", "text_encoder": "text_encoder", "tokenizer": "tokenizer"}
_FOUNDATION = {"unet": "unet", "vae": "vae", "text_encoder": "clip/text", "tokenizer": "clip/text"}
_SCHEDULE = {  # of Stable Diffusion 1.5; a scheduler's other settings are the solver's, and we have our own
    "num_train_timesteps": NUM_TIMESTEPS,
    "beta_start": BETA_START,
    "beta_end": BETA_END,
    "beta_schedule": "scaled_linear",
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
}
_PREFIXES = {"unet": "model.diffusion_model.", "text_encoder": "cond_stage_model.", "vae": "first_stage_model."}
_V_PREDICTION = "v_pred"  # a weight that marks such a base in one file


@dataclass(frozen=True)
class Checkpoint:
    """Weights of a Stable Diffusion under official names; what the file or folder does not hold is empty."""

    source: str
    unet: Weights  # without its instance layers
    layers: Weights  # UniFusion, fusers and ScaleU
    vae: Weights = field(default_factory=dict)
    text_encoder: Weights = field(default_factory=dict)
    tokenizer: Path | None = None
    sizes: Sizes | None = None  # as the configurations of a folder state them
    prediction: Prediction = "epsilon"
    drawing: Drawing = AS_RELEASED  # how its layers are best drawn


def read(path: Path) -> Checkpoint:
    """What a path holds, mapped into memory: a file, a folder of diffusers or of the port, a foundation, or layers.

    ValueError says in one sentence why a path is none of these.
    """
    if not path.is_dir():
        return _file(path)
    if (path / INDEX).is_file():
        return _folder(path, _DIFFUSERS)
    if (path / "clip" / "text").is_dir():
        return _folder(path, _FOUNDATION)
    for folder in (path, path / "layers"):
        if (folder / WEIGHTS_FILE).is_file():
            weights = _network(_finite(folder / WEIGHTS_FILE), str(folder / WEIGHTS_FILE))
            return _checkpoint(path, weights, drawing=stated(path).drawing)
    if (path / comfyui.FUSERS).is_file():
        return _checkpoint(path, comfyui.read(path))
    raise ValueError(
        f"{path}: neither a file of weights, nor a folder with {INDEX} (diffusers), clip/text (a foundation of ours), "
        f"{WEIGHTS_FILE} (layers of ours) or {comfyui.FUSERS} (ComfyUI)"
    )


class Stated(NamedTuple):
    """What is known of instance layers before any weight is read."""

    drawing: Drawing  # how they were trained and are best drawn
    slots: int  # for the instances of a picture


def stated(path: Path) -> Stated:
    """What the configuration of the layers at a path states; of a file, or of ComfyUI's three, what was released.

    A warning where layers of ours do not state how they are drawn.
    """
    for folder in (path, path / "layers", path / "unet"):
        if (folder / WEIGHTS_FILE).is_file() or (folder.name == "unet" and _has_layers(folder / CONFIG_FILE)):
            config = layers_config(folder / CONFIG_FILE)
            if config.drawing is None:
                message = f"{folder / CONFIG_FILE}: does not say how its layers are drawn: as the released ones"
                warnings.warn(message, stacklevel=2)
            return Stated(config.drawing or AS_RELEASED, config.unifusion_config.max_instances)
    return Stated(AS_RELEASED, RELEASED.max_instances)


def base_sizes(path: Path) -> Sizes:
    """Sizes of the base at a path, before any weight is read: a file is taken for a Stable Diffusion 1.5."""
    for mark, names in ((path / INDEX, _DIFFUSERS), (path / "clip" / "text", _FOUNDATION)):
        if mark.exists():
            return sizes.of_folders(*(path / names[network] for network in ("unet", "vae", "text_encoder")))
    return Sizes()


def _has_layers(config: Path) -> bool:
    """Whether a UNet's configuration speaks of instance layers of ours; one that cannot be read is named later."""
    try:
        return "unifusion_config" in json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def split(content: Mapping[str, Any], source: str) -> dict[str, Weights]:
    """The networks in a released file (`model`/`ema`, ...) or a Stable Diffusion file: unet, vae, text_encoder.

    The averaged weights are taken where there are any. ValueError says what the file seems to be instead.
    """
    if "model" in content or "ema" in content:
        names = {"unet": "ema" if content.get("ema") else "model", "vae": "autoencoder", "text_encoder": "text_encoder"}
        return {ours: named(content[theirs], source, theirs) for ours, theirs in names.items() if theirs in content}
    flat = named(content["state_dict"], source, "state_dict") if "state_dict" in content else content
    parts: dict[str, Weights] = {
        network: {name.removeprefix(prefix): flat[name] for name in flat if str(name).startswith(prefix)}
        for network, prefix in _PREFIXES.items()
    }
    if not parts["unet"]:
        raise ValueError(
            f"{source}: neither an InstanceDiffusion nor a Stable Diffusion 1.5 checkpoint; it starts with "
            f"{sorted(map(str, flat))[:3]}"
        )
    parts = {network: named(part, source, _PREFIXES[network]) for network, part in parts.items()}
    return {**parts, "unet": _averaged(parts["unet"], flat, source)}


def named(part: object, source: str, name: str) -> Weights:
    """The part of a file if it is a dictionary of tensors; ValueError otherwise."""
    is_mapping = isinstance(part, Mapping) and all(isinstance(key, str) for key in part)
    if not is_mapping or not all(isinstance(tensor, Tensor) for tensor in part.values()):  # type: ignore[attr-defined]
        raise ValueError(f"{source}: {name!r} should hold named tensors and does not")
    return part  # type: ignore[return-value]


def _averaged(unet: Weights, flat: Mapping[str, Any], source: str) -> Weights:
    """The averaged weights, which Stable Diffusion's trainer keeps under names without dots, where there are any."""
    names = {name: f"model_ema.diffusion_model{name.replace('.', '')}" for name in unet}
    if not any(average in flat for average in names.values()):
        return unet
    if lacking := [average for average in names.values() if average not in flat]:
        raise ValueError(f"{source}: its averaged weights (model_ema) lack {loading.listed(lacking)}")
    return named({name: flat[average] for name, average in names.items()}, source, "model_ema")


def _file(path: Path) -> Checkpoint:
    content = weight_files.read(path)
    parts = split(content, str(path))
    prediction: Prediction = "v_prediction" if _V_PREDICTION in content else "epsilon"
    return _checkpoint(path, **{"unet": {}, **parts}, prediction=prediction)


def _folder(path: Path, names: Mapping[str, str]) -> Checkpoint:
    """A folder with a folder for each network, as diffusers writes them: its own names become official ones."""
    folders = {network: path / name for network, name in names.items()}
    of_networks = sizes.of_folders(folders["unet"], folders["vae"], folders["text_encoder"])
    weights = {network: _weights(folders[network]) for network in ("unet", "vae", "text_encoder")}
    levels = 1 + max(
        (int(level[1]) for name in weights["vae"] if (level := re.search(r"up_blocks\.(\d+)", name))), default=0
    )
    return _checkpoint(
        path,
        _network(weights["unet"], str(folders["unet"])),
        vae={key_tables.official_vae(name, levels): tensor for name, tensor in weights["vae"].items()},
        text_encoder={key_tables.official_text(name): tensor for name, tensor in weights["text_encoder"].items()},
        tokenizer=folders["tokenizer"],
        sizes=of_networks,
        prediction=_prediction(path / "scheduler" / "scheduler_config.json"),
        drawing=stated(path).drawing,
    )


def _checkpoint(path: Path, unet: Weights, **others: Any) -> Checkpoint:
    layers = {name: tensor for name, tensor in unet.items() if is_instance_layer(name)}
    return Checkpoint(str(path), {name: unet[name] for name in unet.keys() - layers.keys()}, layers, **others)


def _weights(folder: Path) -> Weights:
    """Weights of one network, in one file or several."""
    return {name: tensor for file in loading.files_of(folder) for name, tensor in _finite(file).items()}


def _finite(file: Path) -> Weights:
    """Weights of a file of a folder; the file and its own names, which become official ones, are named in an error."""
    weights = named(weight_files.read(file), str(file), "it")
    loading.refuse_not_finite(weights, str(file))
    return weights


def _network(weights: Weights, source: str) -> Weights:
    """A UNet of ours, of diffusers or of the port (whose instance layers have official names already)."""
    shape = key_tables.shape_of(weights)
    try:
        return {
            name if is_instance_layer(name) and ".fuser." not in name else key_tables.official_unet(name, shape): tensor
            for name, tensor in weights.items()
        }
    except KeyError as error:
        raise ValueError(f"{source}: holds a weight that is not known: {error}; not a Stable Diffusion 1.5") from error


def _prediction(file: Path) -> Prediction:
    """What the base predicts, as its scheduler states; ValueError where its noise is not Stable Diffusion 1.5's."""
    if not file.is_file():
        return "epsilon"
    try:
        stated = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{file}: not readable as settings in JSON") from error
    for name, value in _SCHEDULE.items():
        if stated.get(name, value) != value:
            raise ValueError(f"{file}: {name} is {stated[name]!r}, only {value!r} is supported")
    prediction: Any = stated.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise ValueError(f"{file}: prediction_type is {prediction!r}, only {' and '.join(PREDICTIONS)} are supported")
    return prediction  # type: ignore[no-any-return]
