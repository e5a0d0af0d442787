"""Compare with golden vectors that are too large, or not ours, to lie in the repository.

    python tests/worlds/golden_folder.py FOLDER [--full-size]

FOLDER holds the files that tests/golden is a part of. `--full-size` draws a network of the released size, which takes
about 7 GB of memory and minutes.
"""

import argparse
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import golden_cases as golden
import numpy as np
import torch
from golden_weights import drawn
from safetensors.torch import load_file
from torch import Tensor

from instdiff.checkpoints import official
from instdiff.layouts.complete import complete
from instdiff.layouts.formats import RELEASED
from instdiff.model.conditions import Conditions, collate, null, select
from instdiff.model.unet import InstanceUNet
from instdiff.schema import Box, Instance, Layout, Point

NUM_DIMS, WIDTH, SIDE = 8, 768, 512  # numbers of a phrase that are stored, and that there are; pixels of a mask
CLOSE, CLOSE_LARGE = 2e-5, 1e-4  # of forward passes: the small network's and the full-size one's


class Compared(NamedTuple):
    """How far apart ours and the released are, and how far they may be."""

    name: str
    apart: float
    most: float


def weights(folder: Path) -> Iterator[Compared]:
    """The small network's weights, which the repository draws from their names."""
    stored = load_file(folder / "unet_weights.safetensors")
    own = drawn({name: tensor.shape for name, tensor in stored.items()})
    yield Compared("weights", max(golden.difference(own[name], tensor) for name, tensor in stored.items()), 0)
    assert stored.keys() == official.official(golden.unet()).keys()


def demos(folder: Path) -> Iterator[Compared]:
    """The released demos as batches: boxes, points, phrases, and the second instance alone."""
    batches = load_file(folder / "inference_batch.safetensors")
    for name, demo in json.loads((folder / "inference_meta.json").read_text()).items():
        if "locations" not in demo:
            continue
        places = zip(demo["phrases"], demo["locations"], demo["points"], strict=True)
        instances = tuple(Instance(phrase=text, box=Box(*box), point=Point(*point)) for text, box, point in places)
        features = {text: _features(text) for text in demo["phrases"]}
        layout = complete(Layout(key=name, prompt=demo["prompt"], instances=instances), RELEASED, "reference")
        batch = collate([layout], features, RELEASED)
        for prefix, conditions, count in ((name, batch, 2), (f"{name}/instance1", select(batch, 1), 1)):
            for field, values in _named(conditions).items():
                if (expected := batches.get(f"{prefix}/{field}")) is not None:
                    yield Compared(f"{prefix}/{field}", golden.difference(values.expand_as(expected), expected), 1e-7)
            assert len(batches[f"{prefix}/boxes"]) == count


def _features(text: str) -> Tensor:
    stream = np.random.RandomState(zlib.crc32(text.encode()))
    return torch.from_numpy(stream.standard_normal(WIDTH).astype(np.float32))


def _named(conditions: Conditions) -> dict[str, Tensor]:
    filled = conditions.filled_BN.float()
    return {
        "boxes": conditions.box_BN4,
        "points": conditions.point_BN2,
        "masks": filled,
        "text_masks": filled,
        "text_embeddings_first_dims": conditions.text_BND[..., :NUM_DIMS],
    }


@torch.no_grad()
def unmasked(folder: Path) -> Iterator[Compared]:
    """Masks that are given and not applied change nothing."""
    vectors = load_file(folder / "unet_masked_attention_64.safetensors")
    inputs = {name.removeprefix("in/"): tensor for name, tensor in vectors.items() if name.startswith("in/")}
    grounding = golden.unet().ground(golden.kept("box", inputs))
    noise = golden.unet()(inputs["x"], inputs["timesteps"], inputs["context"], grounding).sample
    for name in ("eps/box/unmasked", "eps/box/att_masks_given_but_efficient"):
        yield Compared(name, golden.difference(noise, vectors[name]), CLOSE)


@torch.no_grad()
def full_size(folder: Path) -> Iterator[Compared]:
    """The network at its released size, its weights drawn from their names."""
    vectors = load_file(folder / "fullsize_forward.safetensors")
    shapes = json.loads(gzip.decompress((folder / "full_keys.json.gz").read_bytes()))["model"]
    with torch.device("meta"):
        unet = InstanceUNet(
            **official.SD15_UNET, unifusion_config=official.OFFICIAL_UNIFUSION.model_dump(), scale_u=True
        ).eval()
    state = drawn(shapes)
    for name, expected in vectors.items():
        if name.startswith("weight_head/"):
            head = state[name.removeprefix("weight_head/")].flatten()[: len(expected)]
            yield Compared(name, golden.difference(head, expected), 0)
    official.load_unet(unet, state, "drawn")
    del state
    inputs = _padded({name.removeprefix("in/"): tensor for name, tensor in vectors.items() if name.startswith("in/")})
    yield Compared(
        "unifusion/mask",
        golden.difference(unet.unifusion(golden.kept("mask", inputs)), vectors["unifusion/mask"]),
        CLOSE_LARGE,
    )
    for name in ("mask", "box", "point"):
        noise = unet(inputs["x"], inputs["timesteps"], inputs["context"], unet.ground(golden.kept(name, inputs))).sample
        yield Compared(f"eps/{name}", golden.difference(noise, vectors[f"eps/{name}"]), CLOSE_LARGE)
    nothing = unet.ground(null(golden.conditions(inputs)))
    noise = unet(inputs["x"], inputs["timesteps"], inputs["uc"], nothing).sample
    yield Compared("eps_uncond/mask", golden.difference(noise, vectors["eps_uncond/mask"]), CLOSE_LARGE)


def _padded(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inputs of all slots; only those that are filled are stored."""
    slots = official.OFFICIAL_UNIFUSION.max_instances
    packed = stored.pop("segs_valid_packbits").numpy()
    count = stored["masks"].shape[1]
    segments = np.unpackbits(packed).reshape(1, count, SIDE, SIDE)
    of_slots = {name: stored[name] for name in ("boxes", "masks", "points", "polygons", "scribbles", "text_embeddings")}
    of_slots["segs"] = torch.from_numpy(segments).float()
    empty = slots - count
    padded = {
        name: torch.cat([tensor, tensor.new_zeros(1, empty, *tensor.shape[2:])], 1) for name, tensor in of_slots.items()
    }
    return stored | padded


def main() -> None:
    """Print every comparison and fail where one is too far apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--full-size", action="store_true")
    options = parser.parse_args()
    parts = [weights, demos, unmasked, *([full_size] if options.full_size else [])]
    bad = 0
    for part in parts:
        for gap in part(options.folder):
            bad += gap.apart > gap.most
            print(
                f"{'ok ' if gap.apart <= gap.most else 'BAD'} {gap.name}: {gap.apart:.2g} (at most {gap.most:.2g})",
                flush=True,
            )
    raise SystemExit(f"{bad} comparisons are too far apart" if bad else 0)


if __name__ == "__main__":
    main()
