"""Networks filled with weights: every name has its place, every size fits, every number is finite."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor, nn

from instdiff.files.texts import read_json
from instdiff.networks import weight_files

_OPTIONAL = "num_batches_tracked"  # of batch norms; older files lack it


def fill(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    source: str,
    places: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Every weight of the network (or of `places`) from exactly one of the file, kernels of 1 x 1 as matrices.

    `places` maps names in the file to names in the network; by default they are the same. A network on the meta device
    takes the file's own tensors, in `dtype` where one is given. ValueError lists what is missing, unknown, of another
    size, or not finite, under the file's names.
    """
    own = network.state_dict()
    places = {name: name for name in own} if places is None else places
    missing = {name for name in places.keys() - weights.keys() if not name.endswith(_OPTIONAL)}
    unknown = weights.keys() - places.keys()
    if missing or unknown:
        raise ValueError(f"{source}: lacks {listed(missing)}; holds, but is not known: {listed(unknown)}")
    pairs = {theirs: ours for theirs, ours in places.items() if theirs in weights}
    shaped = {ours: _matrix(weights[theirs], own[ours]) for theirs, ours in pairs.items()}
    wrong = [
        f"{theirs} {tuple(weights[theirs].shape)} instead of {tuple(own[ours].shape)}"
        for theirs, ours in pairs.items()
        if shaped[ours].shape != own[ours].shape
    ]
    if wrong:
        raise ValueError(f"{source}: wrong sizes: {listed(wrong)}")
    refuse_not_finite(weights, source)
    if dtype is not None:
        if beyond := exceeding(shaped, dtype):
            raise ValueError(f"{source}: too large for {dtype}: {listed(beyond)}; take bfloat16 or float32")
        shaped = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in shaped.items()}
    network.load_state_dict(shaped, strict=False, assign=any(own[name].is_meta for name in shaped))


def refuse_not_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """ValueError names the weights that hold NaN or infinity."""
    bad = [name for name, tensor in weights.items() if tensor.is_floating_point() and not _is_finite(tensor)]
    if bad:
        raise ValueError(
            f"{source}: NaN or infinity in {listed(bad)}: the file is damaged, or of a training that diverged"
        )


def exceeding(weights: Mapping[str, Tensor], dtype: torch.dtype) -> list[str]:
    """Names of the weights that are finite, and would not be in `dtype`."""
    if dtype != torch.float16:  # the only one with a smaller range
        return []
    limit = torch.finfo(dtype).max
    wide = {name: tensor for name, tensor in weights.items() if tensor.is_floating_point() and tensor.dtype != dtype}
    return [
        name for name, tensor in wide.items() if tensor.numel() and not tensor.is_meta and tensor.abs().max() > limit
    ]


def from_folder(kind: Any, folder: Path, dtype: torch.dtype | str = torch.float32, **options: Any) -> Any:
    """A network of diffusers or transformers from a folder, in evaluation mode and without gradients.

    `kind` is its class, with `from_pretrained`; the folder holds config.json and the weights. ValueError says what
    the folder lacks, which of its files is no file of weights, and which weights are missing, misshapen or not finite.
    """
    files = files_of(folder)
    for file in files:
        weight_files.recognised(file)
    is_diffusers = isinstance(kind, type) and issubclass(kind, ModelMixin)
    try:
        network, report = kind.from_pretrained(
            folder,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, in our words
            **{"torch_dtype" if is_diffusers else "dtype": dtype},
            **options,
        )
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, NotImplementedError) as error:
        raise ValueError(f"{folder}: config.json and the weights beside it are not a {kind.__name__}'s") from error
    if missing := report["missing_keys"]:
        raise ValueError(f"{folder}: lacks {listed(map(str, missing))} of a {kind.__name__}")
    if wrong := report["mismatched_keys"]:
        raise ValueError(f"{folder}: wrong sizes: {listed(_mismatch(each) for each in wrong)}")
    refuse_not_finite(network.state_dict(), str(files[0] if len(files) == 1 else folder))
    return network.requires_grad_(False).eval()


def model_type(folder: Path, supported: Iterable[str]) -> str:
    """What config.json in a folder says of its network; ValueError where it is none of the known ones."""
    named = config(folder).get("model_type")
    if named not in set(supported):
        raise ValueError(f"{folder}: config.json names the model_type {named!r}, not {' or '.join(sorted(supported))}")
    return str(named)


def config(folder: Path) -> dict[str, Any]:
    """The config.json of a folder; ValueError where there is none that can be read."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    content = read_json(folder / "config.json")
    if not isinstance(content, dict):
        raise ValueError(f"{folder / 'config.json'}: must be an object")
    return content


def files_of(folder: Path) -> list[Path]:
    """The files of weights in a network's folder, of those there are the ones that the libraries read."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    for ending in ("safetensors", "fp16.safetensors", "bin", "fp16.bin"):
        files = [*folder.glob(f"*model.{ending}"), *folder.glob(f"*model-*-of-*.{ending}")]
        if files:
            return sorted(files)
    raise ValueError(f"{folder}: holds no weights (a file that ends in model.safetensors or model.bin)")


def listed(names: Iterable[str], most: int = 8) -> str:
    """The number of names and the first of them."""
    names = sorted(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)} ({', '.join(names[:most])}{more})" if names else "nothing"


def _matrix(tensor: Tensor, like: Tensor) -> Tensor:
    """A 1 x 1 kernel as the matrix it is, where the network has a matrix."""
    if tensor.ndim == 4 and like.ndim == 2 and tensor.shape[2:] == (1, 1):
        return tensor[:, :, 0, 0]
    return tensor


def _is_finite(tensor: Tensor) -> bool:
    if tensor.is_meta or not tensor.numel():
        return True
    if tensor.element_size() == 1:  # eight bits have no such test of their own
        tensor = tensor.float()
    return bool(torch.isfinite(tensor).all())


def _mismatch(entry: Any) -> str:
    """A weight as the libraries report it: name, its shape in the file, its shape in the network."""
    if isinstance(entry, str):
        return entry
    name, theirs, ours = entry
    return f"{name} {tuple(theirs)} instead of {tuple(ours)}"
