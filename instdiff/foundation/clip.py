"""clip: scenes -> a small CLIP with a tokenizer of its own, learnt by contrast of pictures and crops with their words.

Two are trained, never sharing a weight: `text` conditions the generator, `judge` scores what it draws.
Legend: N pictures or crops, M texts, L tokens, D features.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPTokenizer

from instdiff import stage
from instdiff.files import atomic, recipes
from instdiff.foundation import byte_pairs
from instdiff.layouts.geometry import crop
from instdiff.networks.clip import Clip, resized
from instdiff.networks.device import Place
from instdiff.randomness import generator
from instdiff.schema import Strict
from instdiff.training.engine import Engine, Optimisation
from instdiff.training.loop import fit
from instdiff.work import resume
from instdiff.world import corpus
from instdiff.world.appearance import COLOURS, SHAPES, TEXTURES
from instdiff.world.arrangements import GROUPS
from instdiff.world.scenes import phrase

ATTRIBUTES = {"colour": tuple(COLOURS), "texture": tuple(TEXTURES), "shape": tuple(SHAPES)}


class Params(Strict):
    """Where the two models come from and, if they are trained, how."""

    source: Literal["import", "train"]  # what is shipped, or from nothing
    seeds: dict[str, int]  # of each role
    steps: dict[str, int]  # of each role
    num_scenes: PositiveInt  # painted to train on
    workers: NonNegativeInt  # processes that paint them
    width: PositiveInt  # numbers of a token, in both towers
    layers: PositiveInt  # of each tower
    heads: PositiveInt  # of attention in each layer
    image_size: PositiveInt  # pixels a side that the judge sees
    patch_size: PositiveInt  # pixels a side of one token of a picture
    max_tokens: PositiveInt  # longest text, its two ends counted
    word_spread: NonNegativeFloat  # standard deviation of the words' first embeddings
    crops: PositiveInt  # in a batch
    pictures: PositiveInt  # in a batch
    optimisation: Optimisation
    device: Place


def new_tokenizer(max_tokens: int) -> CLIPTokenizer:
    """A byte-pair tokenizer that knows every word of the miniature world as one token."""
    merges = byte_pairs.merges(corpus.SENTENCES)
    pieces = ["<|startoftext|>", "<|endoftext|>", *byte_pairs.pieces(merges)]
    tokenizer = CLIPTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=merges)
    tokenizer.model_max_length = max_tokens
    return tokenizer


def build(params: Params, tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIP."""
    tower = {
        "hidden_size": params.width,
        "intermediate_size": 3 * params.width,
        "num_hidden_layers": params.layers,
        "num_attention_heads": params.heads,
        "projection_dim": params.width,
    }
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": params.max_tokens, **tower, **ids}
    vision = {"image_size": params.image_size, "patch_size": params.patch_size, **tower}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=params.width))
    # At CLIP's own 0.02 the first layer drowns what a word is in the colour of its phrase, and few pictures never
    # bring it back; a base model then reads colours and no shapes.
    torch.nn.init.normal_(model.text_model.embeddings.token_embedding.weight, std=params.word_spread)
    return model


def train(params: Params, out: Path, role: str) -> dict[str, float]:
    """Fit a CLIP to scenes and write what its role needs."""
    seed, where = params.seeds[role], params.device.settled()
    torch.manual_seed(seed)
    tokenizer = new_tokenizer(params.max_tokens)
    clip = Clip(build(params, tokenizer).to(where.device), tokenizer)
    scenes = corpus.rendered(seed, params.num_scenes, GROUPS, params.workers).scenes
    phrases = [(scene.picture, part.box, part.caption) for scene in scenes for part in scene.instances]

    def loss(step: int) -> Tensor:
        draw = generator(seed, "clip", step)
        parts = [phrases[i] for i in draw.integers(len(phrases), size=params.crops)]
        whole = [scenes[i] for i in draw.integers(len(scenes), size=params.pictures)]
        crops = resized([crop(picture, box) for picture, box, _ in parts], params.image_size)
        pictures = resized([scene.picture for scene in whole], params.image_size)
        return clip.contrast(crops, [text for _, _, text in parts]) + clip.contrast(
            pictures, [scene.caption for scene in whole]
        )

    optimisation = params.optimisation.model_copy(update={"steps": params.steps[role]})
    scratch = resume.folder(resume.digest(__name__, params, role))
    fit(clip.model, loss, optimisation, scratch=scratch, log=out / "log.csv", engine=Engine(where))
    clip.model.eval()
    metrics = accuracies(clip, corpus.rendered(seed + 1, 400, GROUPS, params.workers))
    saved = clip.model
    if role == "text":
        saved = CLIPTextModel(clip.model.config.text_config)
        saved.load_state_dict(clip.model.text_model.state_dict())
    saved.half().save_pretrained(out)  # shipped small; read back as fp32
    tokenizer.save_pretrained(out)
    recipes.record(out, params, metrics)
    resume.clear(scratch)
    return metrics


def accuracies(clip: Clip, scenes: corpus.Corpus) -> dict[str, float]:
    """Share of crops whose colour, texture and shape the model names, each against the other seven."""
    parts = [(crop(scene.picture, part.box), part) for scene in scenes.scenes for part in scene.instances]
    features_ND = clip.image_features([picture for picture, _ in parts])
    right = {}
    for attribute, words in ATTRIBUTES.items():
        named_N = (features_ND @ word_features(clip, attribute).T).argmax(1).tolist()
        truth = [part.category if attribute == "shape" else getattr(part, attribute) for _, part in parts]
        right[f"{attribute}_accuracy"] = float(
            np.mean([words[k] == word for k, word in zip(named_N, truth, strict=True)])
        )
    return right


def word_features(clip: Clip, attribute: str) -> Tensor:
    """Unit vectors (8, D) of an attribute's words: the mean over the phrases that contain the word."""
    every = [(c, t, s) for c in COLOURS for t in TEXTURES for s in SHAPES]
    features = clip.text_features([phrase(*words) for words in every])
    place = list(ATTRIBUTES).index(attribute)
    means = [
        features[[i for i, words in enumerate(every) if words[place] == word]].mean(0) for word in ATTRIBUTES[attribute]
    ]
    return F.normalize(torch.stack(means), dim=-1)


def run(*, shipped: Path, clip: Path, role: str, params: Params) -> dict[str, float]:
    """Nothing, or a shipped folder -> clip of one role."""
    if params.source == "import":
        return recipes.copy(shipped, clip)
    with atomic.folder(clip) as part:
        return train(params, part, role)


if __name__ == "__main__":
    stage.main(run)
