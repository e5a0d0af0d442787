"""A pipeline comes of weights in every form they are published in, and of no others."""

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_pipeline import SIZES, TOKENIZER, shared
from torch import Tensor
from weight_forms import (
    foundation,
    layers,
    official_parts,
    one_file,
    ours,
    pickled,
    plain_unet,
    port,
    released,
    sizes,
    stable_diffusion,
    three_files,
)

from instdiff.app.pipeline import pipeline
from instdiff.checkpoints import official, reading
from instdiff.checkpoints.sizes import unifusion_sizes
from instdiff.networks import weight_files
from instdiff.sampling.pipeline import InstanceDiffusionPipeline


def same(pipe: InstanceDiffusionPipeline) -> bool:
    pairs = [(getattr(pipe, name), getattr(shared(), name)) for name in ("unet", "vae", "text_encoder")]
    return all(
        torch.equal(tensor, other.state_dict()[name])
        for model, other in pairs
        for name, tensor in model.state_dict().items()
    )


Write = Callable[[Path], Path]


@pytest.mark.parametrize("write", [released, port, ours])
def test_weights_with_instance_layers_make_a_pipeline(tmp_path: Path, write: Write) -> None:
    assert same(pipeline(write(tmp_path), tokenizer=TOKENIZER, file_sizes=sizes()))


@pytest.mark.parametrize(
    ("write", "instance"), [(foundation, layers), (one_file, released), (pickled, three_files), (one_file, layers)]
)
def test_a_plain_base_takes_its_instance_layers_from_elsewhere(tmp_path: Path, write: Write, instance: Write) -> None:
    pipe = pipeline(write(tmp_path), instance=instance(tmp_path), tokenizer=TOKENIZER, file_sizes=sizes())
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
    ("write", "options", "says"),
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
    tmp_path: Path, write: Write, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        pipeline(write(tmp_path), file_sizes=sizes(), **options)


def test_a_path_may_be_a_text_and_the_networks_are_in_the_precision_asked_for(tmp_path: Path) -> None:
    pipe = pipeline(
        str(one_file(tmp_path)),
        instance=str(three_files(tmp_path)),
        tokenizer=str(TOKENIZER),
        dtype=torch.bfloat16,
        file_sizes=sizes(),
    )
    for name in ("unet", "vae", "text_encoder"):
        own, expected = getattr(pipe, name).state_dict(), getattr(shared(), name).state_dict()
        assert all(torch.equal(tensor, expected[key].bfloat16()) for key, tensor in own.items())
        assert not any(buffer.is_meta for buffer in getattr(pipe, name).buffers())


def test_loading_keeps_the_tensors_of_the_file_and_copies_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the precision of the file, each weight lies where reading has put it."""
    places = set()
    read = weight_files.read

    def recorded(path: Path) -> dict[str, Any]:
        weights = read(path)
        places.update(tensor.data_ptr() for tensor in weights.values())
        return weights

    monkeypatch.setattr(weight_files, "read", recorded)
    pipe = pipeline(foundation(tmp_path), instance=layers(tmp_path))
    for name in ("unet", "vae", "text_encoder"):
        assert {weight.data_ptr() for weight in getattr(pipe, name).parameters()} <= places


def test_what_was_read_of_a_file_leaves_the_memory_before_the_next_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another precision than the file's; the system then takes its pages back."""
    alive: dict[Path, list[weakref.ref[Tensor]]] = {}
    read, load = weight_files.read, official.load_instance_layers

    def recorded(path: Path) -> dict[str, Any]:
        weights = read(path)
        alive[path] = [weakref.ref(tensor) for tensor in weights.values()]
        return weights

    def looked_at(*arguments: Any) -> None:
        files = [path for path, tensors in alive.items() if any(tensor() is not None for tensor in tensors)]
        assert len(alive) == 4
        assert [file.is_relative_to(own) for file in files] == [True]
        load(*arguments)

    base, own = foundation(tmp_path), layers(tmp_path)
    monkeypatch.setattr(weight_files, "read", recorded)
    monkeypatch.setattr(official, "load_instance_layers", looked_at)
    pipeline(base, instance=own, dtype=torch.bfloat16)


def averaged(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the trainer of Stable Diffusion writes them: names without dots, and what it counts by."""
    unet = {name: tensor for name, tensor in weights.items() if name.startswith("model.")}
    names = {name: "model_ema." + name.removeprefix("model.").replace(".", "") for name in unet}
    average = {names[name]: tensor + 1 for name, tensor in unet.items()}
    numbers = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(3)}
    return {**weights, **average, **numbers}


def test_averaged_weights_of_a_stable_diffusion_file_are_taken(tmp_path: Path) -> None:
    weights = averaged(stable_diffusion())
    save_file(weights, tmp_path / "sd.safetensors")
    read = reading.read(tmp_path / "sd.safetensors")
    assert all(torch.equal(tensor, plain_unet()[name] + 1) for name, tensor in read.unet.items())
    assert read.unet.keys() == plain_unet().keys()
    del weights["model_ema.diffusion_model" + next(iter(plain_unet())).replace(".", "")]
    save_file(weights, tmp_path / "sd.safetensors")
    with pytest.raises(ValueError, match=r"averaged weights \(model_ema\) lack 1"):
        reading.read(tmp_path / "sd.safetensors")


def with_scheduler(folder: Path, **stated: object) -> Path:
    ours(folder)
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **stated}))
    return folder


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_what_the_base_predicts_is_honoured(tmp_path: Path, prediction: str) -> None:
    pipe = pipeline(with_scheduler(tmp_path, prediction_type=prediction), solver="dpm")
    assert pipe.scheduler.config.prediction_type == prediction
    file = {**stable_diffusion(), "v_pred": torch.tensor(0.0)}
    save_file(file, tmp_path / "v.safetensors")
    assert reading.read(tmp_path / "v.safetensors").prediction == "v_prediction"


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ({"prediction_type": "sample"}, "prediction_type is 'sample', only epsilon and v_prediction are supported"),
        ({"prediction_type": None}, "prediction_type is None"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr is True, only False is supported"),
        ({"beta_schedule": "linear"}, "beta_schedule is 'linear'"),
        ({"num_train_timesteps": 500}, "num_train_timesteps is 500"),
    ],
)
def test_a_base_of_another_noise_is_refused(tmp_path: Path, stated: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=rf"scheduler_config\.json: {says}"):
        pipeline(with_scheduler(tmp_path, **stated))


def changed(folder: Path, network: str, **stated: object) -> Path:
    file = ours(folder) / network / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **stated}))
    return folder


@pytest.mark.parametrize(
    ("network", "stated", "says"),
    [
        ("unet", {"in_channels": 9}, "takes 9 and gives 4 channels, its autoencoder has 4"),
        ("unet", {"cross_attention_dim": 24}, "reads texts of width 24, its text encoder gives 16"),
        ("text_encoder", {"vocab_size": 9}, "knows 9 tokens"),
        ("vae", {"_class_name": "AutoencoderTiny"}, "a AutoencoderTiny, expected an AutoencoderKL"),
        ("vae", {"shift_factor": 0.1}, "shift_factor is set"),
    ],
)
def test_networks_that_do_not_go_together_are_refused(
    tmp_path: Path, network: str, stated: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        pipeline(changed(tmp_path, network, **stated))


def test_a_folder_with_names_of_older_releases_is_read(tmp_path: Path) -> None:
    """Before 0.18 diffusers called the four matrices of the autoencoder's attention otherwise."""
    file = ours(tmp_path) / "vae" / "diffusion_pytorch_model.safetensors"
    older = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
    weights = {}
    for name, tensor in load_file(file).items():
        here = next((new for new in older if f"attentions.0.{new}" in name), None)
        weights[name if here is None else name.replace(here, older[here])] = tensor
    assert any("query" in name for name in weights)
    save_file(weights, file)
    assert same(pipeline(tmp_path))


@pytest.mark.parametrize("network", ["unet", "vae", "text_encoder"])
def test_weights_that_are_not_finite_are_refused_by_file_and_name(tmp_path: Path, network: str) -> None:
    (file,) = (ours(tmp_path) / network).glob("*.safetensors")
    weights = load_file(file)
    name = next(iter(weights))
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, file)
    with pytest.raises(ValueError, match=rf"{file}: NaN or infinity in 1 \({name}\)"):
        pipeline(tmp_path)


def test_layers_of_our_folder_have_the_sizes_that_stand_beside_them(tmp_path: Path) -> None:
    read = reading.read(layers(tmp_path))
    assert unifusion_sizes(read.layers, "x") == SIZES
    with pytest.raises(ValueError, match="instance layers alone"):
        pipeline(tmp_path / "instance")


def test_an_autoencoder_whose_weights_exceed_half_precision_stays_in_float32_and_is_named(tmp_path: Path) -> None:
    (file,) = (ours(tmp_path) / "vae").glob("*.safetensors")
    weights = load_file(file)
    weights["decoder.conv_norm_out.weight"] *= 1e5
    save_file(weights, file)
    with pytest.warns(
        UserWarning, match=r"stays in float32; too large for torch.float16: 1 \(decoder.norm_out.weight\)"
    ):
        pipe = pipeline(tmp_path, dtype=torch.float16)
    assert (pipe.vae.dtype, pipe.unet.dtype) == (torch.float32, torch.float16)
    (file,) = (tmp_path / "unet").glob("*.safetensors")
    save_file({name: tensor * 1e6 for name, tensor in load_file(file).items()}, file)
    with (
        pytest.raises(ValueError, match="too large for torch.float16.*take bfloat16 or float32"),
        pytest.warns(match="stays"),
    ):
        pipeline(tmp_path, dtype=torch.float16)
