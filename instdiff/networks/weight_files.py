"""Files of weights: recognised by their first bytes, and read without executing anything that is in them.

A pickle goes through torch's restricted reader; the few foreign types that published files hold beside their tensors
become empty stand-ins, and any other is refused. Words of the libraries are not passed on: they advise to trust files.
"""

import json
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

Format = Literal["safetensors", "torch"]

MAX_HEADER = 100_000_000  # bytes, of a safetensors file: the library's own bound
_STARTS = {
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself: fetch that (git lfs pull)",
    b"\x1f\x8b": "is a gzip archive: unpack it",
    b"7z\xbc\xaf": "is a 7z archive: unpack it",
    b"Rar!": "is a RAR archive: unpack it",
    b"GGUF": "is a GGUF file, weights for another program",
    b"\x89HDF": "is an HDF5 file (Keras or TensorFlow), not weights for torch",
    b"\x93NUMPY": "is a NumPy array, not weights for torch",
    b"\x89PNG": "is a picture (PNG)",
    b"\xff\xd8\xff": "is a picture (JPEG)",
    b"%PDF": "is a PDF document",
}
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")


class StandIn:
    """Takes the place of a foreign object in a pickle; holds nothing and does nothing."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...

    def __setitem__(self, _: object, __: object) -> None: ...


STAND_INS: tuple[tuple[type, str], ...] = tuple(
    (StandIn, name)
    for name in (
        "_codecs.encode",
        "builtins.dict",
        "builtins.float",
        "builtins.int",
        "builtins.list",
        "builtins.str",
        "builtins.tuple",
        "collections.defaultdict",
        "numpy._core.multiarray.scalar",
        "numpy.core.multiarray.scalar",
        "numpy.dtype",
        "omegaconf.base.ContainerMetadata",
        "omegaconf.base.Metadata",
        "omegaconf.dictconfig.DictConfig",
        "omegaconf.listconfig.ListConfig",
        "omegaconf.nodes.AnyNode",
        "omegaconf.nodes.BooleanNode",
        "omegaconf.nodes.FloatNode",
        "omegaconf.nodes.IntegerNode",
        "omegaconf.nodes.StringNode",
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "typing.Any",
    )
)


def read(path: Path, allowed: Sequence[Any] = STAND_INS) -> dict[str, Any]:
    """What a file holds, on the CPU, mapped into memory: its bytes are read as they are used.

    The first bytes decide how it is read, not its name. `allowed` are the types (or pairs of a type and the name that
    it takes the place of) that a pickle may hold beside tensors. ValueError says in one sentence what the file is
    instead, or what in it is refused.
    """
    if recognised(path) == "safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path}: is a damaged safetensors file") from error
    try:
        with (
            torch.serialization.safe_globals(list(allowed)),
            warnings.catch_warnings(action="ignore"),
            path.open("rb") as file,
        ):
            mapped = zipfile.is_zipfile(path) and path.suffix != ".safetensors"  # by whose name torch goes
            content = torch.load(path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a pickle of damaged bytes raises anything
        raise ValueError(f"{path}: {_refusal(error)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, expected a dictionary of weights")
    return content


def recognised(path: Path) -> Format:
    """The format of a file by its first bytes; ValueError says what the file is instead, or that it ends early."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file" if not path.exists() else f"{path}: is a folder, not a file")
    with path.open("rb") as file:
        head = file.read(512)
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER:
        _check_length(path)
        return "safetensors"
    if head.startswith(b"PK"):
        _check_archive(path)
        return "torch"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and len(head) > 2:
        return "torch"
    raise ValueError(f"{path}: {_instead(head)}")


def _check_length(path: Path) -> None:
    """A safetensors file says in its header how long it is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length)
    if len(header) < length:
        raise ValueError(f"{path}: is a safetensors file that ends early, within its header: copy it anew")
    try:
        entries: Mapping[str, Any] = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"{path}: is a damaged safetensors file: its header cannot be read") from error
    if size < expected:
        raise ValueError(
            f"{path}: is a safetensors file that ends early, after {size} of {expected} bytes: copy it anew"
        )


def _check_archive(path: Path) -> None:
    """What torch writes is a zip archive with one pickle; programs of TorchScript hold code, too."""
    members = None
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                members = [Path(name).name for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path}: is a damaged zip archive") from error
    if members is None:
        raise ValueError(f"{path}: is a torch file or zip archive that ends early: copy it anew")
    if "constants.pkl" in members:
        raise ValueError(f"{path}: is a TorchScript program, expected weights alone (a state dictionary)")
    if "data.pkl" not in members:
        raise ValueError(f"{path}: is a zip archive without weights of torch (it holds {', '.join(members[:3])})")


def _instead(head: bytes) -> str:
    """What a file is that holds no weights."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    signs = {
        "is empty": not head,
        "begins with nothing but zero bytes: its copy has not ended, so copy it anew": not head.strip(b"\0"),
        "is a web page, not the file itself: the address gave a page, such as a login or an error": (
            text[:16].lower().startswith(_PAGES)
        ),
        "is a tar archive: unpack it": head[257:262] == b"ustar",
        **{what: head.startswith(start) for start, what in _STARTS.items()},
    }
    return next((what for what, is_so in signs.items() if is_so), None) or _described(head)


def _described(head: bytes) -> str:
    try:
        beginning = head.decode("utf-8").split("\n")[0][:40]
    except UnicodeDecodeError:
        return f"is no file of weights (safetensors or torch); it begins with the bytes {head[:8].hex(' ')}"
    return f"is text, not weights; it begins with {beginning!r}"


def _refusal(error: Exception) -> str:
    """Why torch's reader did not take a file, in our words."""
    if foreign := re.search(r"GLOBAL (\S+)", str(error)):
        return f"refused; it holds {foreign[1]}, which is no tensor, and nothing in it was executed"
    return "refused; it is a damaged pickle, ends early, or holds more than tensors; nothing in it was executed"
