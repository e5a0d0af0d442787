"""blip: scenes -> a small BLIP that says of a crop which colour, texture and shape it sees, in transformers' own class.

Legend: N crops, S side of a crop as the model sees it, L tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
)

from instdiff import stage
from instdiff.files import atomic, recipes
from instdiff.layouts import geometry
from instdiff.networks.device import Place
from instdiff.randomness import generator
from instdiff.schema import Strict
from instdiff.training.engine import Engine, Optimisation
from instdiff.training.loop import fit
from instdiff.work import resume
from instdiff.world import corpus
from instdiff.world.appearance import COLOURS, SHAPES, TEXTURES
from instdiff.world.arrangements import GROUPS
from instdiff.world.scenes import Scene

Picture = npt.NDArray[np.uint8]
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", *COLOURS, *TEXTURES, *SHAPES)
ATTRIBUTES = {"colour": tuple(COLOURS), "texture": tuple(TEXTURES), "shape": tuple(SHAPES)}


class Params(Strict):
    """How it is trained."""

    seed: int
    num_scenes: PositiveInt
    workers: NonNegativeInt
    image_size: PositiveInt
    patch_size: PositiveInt
    width: PositiveInt
    heads: PositiveInt
    layers: PositiveInt  # of the eye
    text_layers: PositiveInt
    max_tokens: PositiveInt
    batch_size: PositiveInt
    optimisation: Optimisation
    device: Place


def new_processor(image_size: int) -> BlipProcessor:
    """An eye of this size and a tokenizer that knows the miniature world's words."""
    with TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.txt"
        vocabulary.write_text("\n".join(WORDS))
        tokenizer = BertTokenizer(vocab=str(vocabulary))
    return BlipProcessor(BlipImageProcessor(size={"height": image_size, "width": image_size}), tokenizer)


def build(params: Params) -> BlipForConditionalGeneration:
    """An untrained captioner."""
    tower = {
        "hidden_size": params.width,
        "intermediate_size": 3 * params.width,
        "num_attention_heads": params.heads,
    }
    eye = {"image_size": params.image_size, "patch_size": params.patch_size, "num_hidden_layers": params.layers}
    special = {name: WORDS.index(word) for name, word in (("bos", "[CLS]"), ("eos", "[SEP]"), ("pad", "[PAD]"))}
    text = {
        "vocab_size": len(WORDS),
        "max_position_embeddings": params.max_tokens,
        "num_hidden_layers": params.text_layers,
        "encoder_hidden_size": params.width,
        "projection_dim": params.width,
        "sep_token_id": special["eos"],
        "is_decoder": True,
        **{f"{name}_token_id": number for name, number in special.items()},
    }
    return BlipForConditionalGeneration(
        BlipConfig(vision_config=tower | eye, text_config=tower | text, projection_dim=params.width)
    )


def crops(scenes: Sequence[Scene]) -> tuple[list[Picture], list[str]]:
    """The pixels that the box of each instance touches, and what it is called."""
    pixels = [
        scene.picture[geometry.rows(part.box, len(scene.picture)), geometry.columns(part.box, len(scene.picture))]
        for scene in scenes
        for part in scene.instances
    ]
    return pixels, [part.caption for scene in scenes for part in scene.instances]


def seen(processor: BlipProcessor, pictures: Sequence[Picture]) -> Tensor:
    """Crops as the eye takes them, (N, 3, S, S) in half precision: all of a training set fit into memory."""
    parts = [
        processor.image_processor(images=list(pictures[start : start + 256]), return_tensors="pt").pixel_values.half()
        for start in range(0, len(pictures), 256)
    ]
    return torch.cat(parts)


def train(params: Params, out: Path) -> dict[str, float]:
    """Fit a captioner to the crops of scenes and write it."""
    torch.manual_seed(params.seed)
    where = params.device.settled()
    processor, blip = new_processor(params.image_size), build(params).train().to(where.device)
    pictures, captions = crops(corpus.rendered(params.seed, params.num_scenes, GROUPS, params.workers).scenes)
    pixels_N3SS = seen(processor, pictures)
    ids_NL: Tensor = processor.tokenizer(captions, return_tensors="pt").input_ids  # every caption is as long

    def loss(step: int) -> Tensor:
        draw = torch.from_numpy(generator(params.seed, "blip", step).integers(len(ids_NL), size=params.batch_size))
        ids_BL = ids_NL[draw].to(where.device)
        error: Tensor = blip(
            pixel_values=pixels_N3SS[draw].float().to(where.device),
            input_ids=ids_BL,
            attention_mask=torch.ones_like(ids_BL),
            labels=ids_BL,
        ).loss
        return error

    scratch = resume.folder(resume.digest(__name__, params))
    fit(blip, loss, params.optimisation, scratch=scratch, log=out / "log.csv", engine=Engine(where))
    blip.half().save_pretrained(out)  # shipped small; read back as fp32
    processor.save_pretrained(out)
    metrics = accuracies(out, corpus.rendered(params.seed + 1, 400, GROUPS, params.workers).scenes)
    recipes.record(out, params, metrics)
    resume.clear(scratch)
    return metrics


@torch.no_grad()
def accuracies(folder: Path, scenes: Sequence[Scene]) -> dict[str, float]:
    """Share of crops whose colour, texture, shape, and whose colour and shape the captioner of a folder names."""
    model = BlipForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    processor = BlipProcessor.from_pretrained(folder, local_files_only=True)
    pictures, captions = crops(scenes)
    pixels = seen(processor, pictures).float()
    ids = torch.cat([model.generate(pixel_values=part, max_new_tokens=6) for part in pixels.split(256)])
    texts = processor.batch_decode(ids, skip_special_tokens=True)
    right = {name: [_word(text, words) == _word(true, words) for text, true in zip(texts, captions, strict=True)]
             for name, words in ATTRIBUTES.items()}  # fmt: skip
    both = np.logical_and(right["colour"], right["shape"])
    return {f"{name}_accuracy": float(np.mean(are_right)) for name, are_right in right.items()} | {
        "colour_and_shape_accuracy": float(np.mean(both))
    }


def _word(text: str, words: Sequence[str]) -> str | None:
    """The first of these words that a text holds."""
    return next((word for word in text.split() if word in words), None)


def run(*, blip: Path, params: Params) -> dict[str, float]:
    """Nothing -> blip."""
    with atomic.folder(blip) as part:
        return train(params, part)


if __name__ == "__main__":
    stage.main(run)
