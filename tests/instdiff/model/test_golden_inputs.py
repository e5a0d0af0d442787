"""What goes into the network and comes out of it agrees with vectors of the released code: batches, masks, the VAE."""

import base64
import functools
import json
import zlib

import golden_cases as golden
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from instdiff.checkpoints import official
from instdiff.layouts import masks
from instdiff.layouts.complete import complete
from instdiff.layouts.formats import RELEASED
from instdiff.model import attention_mask
from instdiff.model.conditions import Conditions, collate, keep, null, select
from instdiff.schema import Box, Instance, Layout, Point

CLOSE = 2e-5
VAE_SCALE = 0.18215
SIDE = 64  # cells of the attention masks


def pairs(numbers: list[float]) -> tuple[Point, ...]:
    return tuple(Point(x, y) for x, y in zip(numbers[::2], numbers[1::2], strict=True))


def bits(packed: Tensor, *shape: int) -> np.ndarray:
    return np.unpackbits(packed.numpy()).reshape(shape) > 0


@functools.cache
def prepared() -> Conditions:
    """A layout of three instances, with all that can be said of them, as the pipeline prepares it."""
    record = json.loads((golden.FOLDER / "prepare_batch_mixed_input.json").read_text())
    segments = bits(golden.tensors("prepare_batch_mixed")["input/segs_packed_512"], 3, 512, 512)
    instances = tuple(
        Instance(
            phrase=phrase,
            box=Box(*box),
            point=Point(*point),
            scribble=pairs(scribble),
            outline=pairs(outline),
            mask=masks.encode(segment),
        )
        for phrase, box, point, scribble, outline, segment in zip(
            *(record[name] for name in ("phrases", "locations", "points", "scribbles", "polygons")),
            segments,
            strict=True,
        )
    )
    words = {phrase: torch.ones(8) for phrase in record["phrases"]}
    layout = Layout(key="k", prompt="", instances=instances)
    return collate([complete(layout, RELEASED, "reference")], words, RELEASED)


def said_of(conditions: Conditions, count: int) -> dict[str, Tensor]:
    """The first slots under the released names."""
    named = {
        "boxes": conditions.box_BN4,
        "masks": conditions.filled_BN.float(),
        "points": conditions.point_BN2,
        "polygons": conditions.outline_BNP,
        "scribbles": conditions.scribble_BNS,
    }
    return {name: values[:, :count] for name, values in named.items()}


def test_a_prepared_batch_is_the_released_one() -> None:
    for name, values in said_of(prepared(), 3).items():
        assert torch.equal(values, golden.tensors("prepare_batch_mixed")[f"batch/{name}"]), name
    assert not prepared().filled_BN[:, 3:].any()
    regions = attention_mask.transposed_boxes(prepared(), SIDE, SIDE)[0, :3].view(3, SIDE, SIDE)
    expected = bits(golden.tensors("prepare_batch_mixed")["batch/att_masks"], 3, SIDE, SIDE)
    assert np.array_equal(regions.numpy(), expected)


@pytest.mark.parametrize("slot", range(3))
def test_an_instance_prepared_alone_is_the_released_one(slot: int) -> None:
    alone, expected = select(prepared(), slot), golden.inputs("prepare_batch_mixed", f"instance{slot}/")
    for name, values in said_of(alone, 2).items():
        assert torch.equal(values, expected[name]), name
    assert float(alone.mask_BNHW[0, 0].sum()) == float(expected["segs_sum"])
    assert float(attention_mask.transposed_boxes(alone, SIDE, SIDE)[0, 0].sum()) == float(expected["att_masks_sum"])


@pytest.mark.parametrize("case", json.loads((golden.FOLDER / "attmask_from_box.json").read_text()), ids=str)
def test_a_box_covers_the_released_cells(case: dict[str, object]) -> None:
    size = int(str(case["size"]))
    conditions = null(prepared())
    conditions.box_BN4[0, 0] = torch.tensor(case["box"])
    conditions.filled_BN[0, 0] = True
    packed = zlib.decompress(base64.b64decode(str(case["packbits_zlib_b64"])))
    expected = np.unpackbits(np.frombuffer(packed, np.uint8))[: size * size] > 0
    assert np.array_equal(attention_mask.transposed_boxes(conditions, size, size)[0, 0].numpy(), expected)


@torch.no_grad()
def test_masks_at_their_full_size_make_the_released_tokens() -> None:
    inputs = golden.inputs("unifusion_512", "in512/")
    segments = np.zeros((1, 30, 512, 512), dtype=np.float32)
    segments[:, :2] = bits(inputs.pop("segs_first2"), 1, 2, 512, 512)
    padded = {
        name: torch.cat([values, values.new_zeros(1, 28, *values.shape[2:])], 1) for name, values in inputs.items()
    }
    conditions = golden.conditions({**padded, "segs": torch.from_numpy(segments)})
    tokens = golden.unet().unifusion(keep(conditions, golden.KEPT["mask"]))
    assert golden.difference(tokens, golden.tensors("unifusion_512")["out/mask_cfg"]) < CLOSE


@functools.cache
def vae() -> AutoencoderKL:
    levels = 3
    model = AutoencoderKL(
        block_out_channels=(32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=4,
        scaling_factor=VAE_SCALE,
    )
    official.load_vae(model, golden.inputs("vae", "weights/"), "vae.safetensors")
    return model.eval()


@torch.no_grad()
def test_the_autoencoder_encodes_as_the_released_one() -> None:
    expected = golden.tensors("vae")
    seen = vae().encode(expected["in/image"]).latent_dist
    assert golden.difference(seen.parameters, expected["out/moments"]) < CLOSE
    assert golden.difference(seen.mode() * VAE_SCALE, expected["out/latent_mode"]) < CLOSE
    latents = (seen.mean + seen.std * expected["in/noise"]) * VAE_SCALE
    assert golden.difference(latents, expected["out/latent_sample"]) < CLOSE


@torch.no_grad()
def test_the_autoencoder_decodes_as_the_released_one() -> None:
    expected = golden.tensors("vae")
    decoded = vae().decode(expected["in/z"] / VAE_SCALE).sample
    assert golden.difference(decoded, expected["out/decoded"]) < CLOSE
