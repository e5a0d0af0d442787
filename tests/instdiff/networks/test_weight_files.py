"""A file of weights is what its first bytes say, whatever it is called; what is none is named in our own words."""

import io
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from malicious import Malicious
from safetensors.torch import save, save_file
from tiny_pipeline import base

from instdiff.networks import base_unet, inception, loading, sam_masks, weight_files
from instdiff.networks import detector as detectors

WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}


def pickled(content: object, **how: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for name, content in members.items():
            written.writestr(name, content)
    return file.getvalue()


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as written:
        written.addfile(tarfile.TarInfo("a"), io.BytesIO())
    return file.getvalue()


def script() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file)
    return file.getvalue()


@pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt", "x.pth", "x"])
@pytest.mark.parametrize(
    "content", [save(WEIGHTS), pickled(WEIGHTS), pickled(WEIGHTS, _use_new_zipfile_serialization=False)]
)
def test_a_file_is_read_as_what_it_is_under_any_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    weights = weight_files.read(tmp_path / name)
    assert weights.keys() == WEIGHTS.keys()
    assert all(torch.equal(weights[each], WEIGHTS[each]) for each in WEIGHTS)


NO_WEIGHTS: dict[str, Callable[[], bytes]] = {
    "is a pointer of Git LFS": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n",
    "is a web page": lambda: b"\n\n<!DOCTYPE html><html><head><title>Sign in</title>",
    "is a web page, not": lambda: b"\xef\xbb\xbf<html lang=en>",
    "is empty": lambda: b"",
    "zero bytes": lambda: bytes(4096),
    r"is text, not weights; it begins with '\{\"error\"": lambda: b'{"error": "Repository not found"}',
    "is a gzip archive": lambda: b"\x1f\x8b\x08" + bytes(30),
    "is a tar archive": tar,
    "is a GGUF file": lambda: b"GGUF\x03\0\0\0",
    "is a picture": lambda: b"\x89PNG\r\n\x1a\n",
    "begins with the bytes ff fe": lambda: b"\xff\xfe\xfd" * 9,
    "is a zip archive without weights": lambda: archive(readme=b"x"),
    "is a TorchScript program": script,
    r"ends early, after \d+ of \d+ bytes": lambda: save(WEIGHTS)[:-3],
    "ends early, within its header": lambda: save(WEIGHTS)[:20],
    "its header cannot be read": lambda: struct.pack("<Q", 12) + b"{not json at",
    "zip archive that ends early": lambda: pickled(WEIGHTS)[:-40],
    "a damaged pickle, ends early": lambda: pickled(WEIGHTS, _use_new_zipfile_serialization=False)[:-20],
    r"refused; it holds \S+, which is no tensor": lambda: pickled({"a": Malicious("touch executed")}),
    "holds a list, expected a dictionary": lambda: pickled([torch.ones(1)]),
}


@pytest.mark.parametrize("says", NO_WEIGHTS)
@pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt"])
def test_a_file_that_holds_no_weights_is_called_what_it_is(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).write_bytes(NO_WEIGHTS[says]())
    with pytest.raises(ValueError, match=says) as raised:
        weight_files.read(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name))
    assert not re.search("weights_only|safe_globals|SafetensorError|HeaderToo|pickle_module", str(raised.value))


READERS: dict[str, Callable[[Path], object]] = {
    "x.pth": sam_masks.load,
    "inception.pth": inception.load,
    "x.pt": lambda path: detectors.imported(path, path.parent, {}),
    "detector.pt": lambda path: detectors.load(path.parent),
    "diffusion_pytorch_model.safetensors": lambda path: base_unet.load(path.parent),
}


@pytest.mark.parametrize("name", READERS)
def test_every_reader_of_weights_says_so(tmp_path: Path, name: str) -> None:
    base().save_config(tmp_path)
    (tmp_path / "classes.json").write_text('{"classes": [], "image_size": 1, "min_score": 0, "nms_iou": 0}')
    (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=rf"{name}: is a pointer of Git LFS"):
        READERS[name](tmp_path / name)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.sampled_from([save(WEIGHTS), pickled(WEIGHTS), pickled(WEIGHTS, _use_new_zipfile_serialization=False)]),
    end=st.integers(0, 2000),
    changed=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
)
def test_damaged_files_are_read_or_refused_in_one_sentence(
    tmp_path: Path, content: bytes, end: int, changed: list[tuple[int, int]]
) -> None:
    damaged = bytearray(content[:end])
    for place, value in changed:
        if place < len(damaged):
            damaged[place] = value
    (tmp_path / "x.ckpt").write_bytes(damaged)
    try:
        weight_files.read(tmp_path / "x.ckpt")
    except ValueError as error:
        assert str(error).startswith(str(tmp_path))
        assert "weights_only" not in str(error)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite_are_refused_by_file_and_name(value: float, dtype: torch.dtype) -> None:
    network = torch.nn.Linear(2, 2)
    weights = {name: tensor.detach().to(dtype) for name, tensor in network.state_dict().items()}
    loading.fill(network, weights, "x.pth")
    weights["weight"][1, 0] = value
    with pytest.raises(ValueError, match=r"x\.pth: NaN or infinity in 1 \(weight\)"):
        loading.fill(network, weights, "x.pth")


def test_a_folder_names_what_of_it_is_missing_misshapen_or_not_finite(tmp_path: Path) -> None:
    unet = base()
    unet.save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    again = base_unet.load(tmp_path)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in unet.state_dict().items())
    whole = {name: tensor.contiguous() for name, tensor in unet.state_dict().items()}
    name = "mid_block.resnets.0.conv1.weight"
    faults = {
        rf"lacks 1 \({name}\)": {key: tensor for key, tensor in whole.items() if key != name},
        rf"wrong sizes: 1 \({name}": {**whole, name: torch.ones(3)},
        rf"safetensors: NaN or infinity in 1 \({name}\)": {**whole, name: whole[name] * float("nan")},
    }
    for says, weights in faults.items():
        save_file(weights, file)
        with pytest.raises(ValueError, match=says):
            base_unet.load(tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match="holds no weights"):
        base_unet.load(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        base_unet.load(tmp_path / "nowhere")


@pytest.mark.parametrize("config", ["no json", '{"block_out_channels": [16]}', '{"block_out_channels": 16}'])
def test_a_folder_whose_settings_are_not_those_of_its_network_is_refused_in_one_sentence(
    tmp_path: Path, config: str
) -> None:
    base().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(config)
    says = r"config\.json and the weights beside it are not a UNet2DConditionModel's$"
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))}: {says}"):
        base_unet.load(tmp_path)
