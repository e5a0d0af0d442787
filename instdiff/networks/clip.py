"""CLIP: its text tower for the generator, both towers for a judge, and how each prepares what it reads.

Legend: N pictures or crops, M texts, L tokens, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from instdiff.files.texts import read_json
from instdiff.networks import loading
from instdiff.networks.device import PLAIN, Place

Picture = npt.NDArray[np.uint8]
HALF = (0.5, 0.5, 0.5)
PREPARATION_FILE = "preprocessor_config.json"  # of transformers


@dataclass(frozen=True)
class Preparation:
    """What a picture goes through before the vision tower: by default squeezed into a square, values in [-1, 1]."""

    mean: tuple[float, ...] = HALF  # of each channel, taken off values in [0, 1]
    spread: tuple[float, ...] = HALF  # what they are then divided by
    middle: bool = False  # of a picture that is no square only the square in its middle is seen

    def __call__(self, pictures: Sequence[Picture], size: int) -> Tensor:
        """Pictures of any size as (N, 3, S, S)."""
        pixels_N3SS = resized([middle(picture) for picture in pictures] if self.middle else pictures, size)
        if self.mean == self.spread == HALF:
            return pixels_N3SS
        mean_311, spread_311 = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.spread))
        return ((pixels_N3SS + 1) / 2 - mean_311) / spread_311


@dataclass(frozen=True)
class TextEncoder:
    """The text tower of a CLIP: what the generator reads."""

    model: CLIPTextModel
    tokenizer: CLIPTokenizer

    @torch.no_grad()
    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """Hidden state of every token after the final norm, (N, L, D), padded to the model's length."""
        return self.states(self.ids(prompts))

    @torch.no_grad()
    def states(self, ids_NL: Tensor) -> Tensor:
        """The same of token ids, for who asks for the same prompts again and again."""
        states: Tensor = self.model(ids_NL).last_hidden_state
        return states

    @torch.no_grad()
    def pooled(self, phrases: Sequence[str]) -> Tensor:
        """Hidden state at the end-of-text token, before projection, (N, D) (spec of the reference: "before")."""
        states: Tensor = self.model(self.ids(phrases)).pooler_output
        return states

    def ids(self, texts: Sequence[str]) -> Tensor:
        """Token ids (N, L), padded to the model's length."""
        return token_ids(self.tokenizer, texts, self.model.config.max_position_embeddings).to(self.model.device)


@dataclass(frozen=True)
class Clip:
    """Both towers: how well a picture fits a text."""

    model: CLIPModel
    tokenizer: CLIPTokenizer
    prepared: Preparation = Preparation()

    @torch.no_grad()
    def image_features(self, pictures: Sequence[Picture]) -> Tensor:
        """Unit vectors (N, D) of pictures or crops of any size, (H, W, 3) uint8; on the CPU, in float32."""
        size = self.model.config.vision_config.image_size
        parts = [self._images(self.prepared(pictures[i : i + 256], size)) for i in range(0, len(pictures), 256)]
        return torch.cat(parts).to("cpu", torch.float32)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (M, D) of texts; on the CPU, in float32."""
        return self._texts(texts).to("cpu", torch.float32)

    def _images(self, pixels_N3SS: Tensor) -> Tensor:
        pixels = pixels_N3SS.to(self.model.device, self.model.dtype)
        return F.normalize(self.model.visual_projection(self.model.vision_model(pixels).pooler_output), dim=-1)

    def _texts(self, texts: Sequence[str]) -> Tensor:
        length = self.model.config.text_config.max_position_embeddings
        ids = token_ids(self.tokenizer, texts, length).to(self.model.device)
        states = self.model.text_model(ids).pooler_output
        return F.normalize(self.model.text_projection(states), dim=-1)

    def contrast(self, pixels_N3SS: Tensor, texts: Sequence[str]) -> Tensor:
        """Symmetric cross-entropy of N pictures with their texts (Radford et al. 2021); equal texts are one target."""
        distinct = list(dict.fromkeys(texts))
        target = torch.tensor([distinct.index(text) for text in texts], device=self.model.device)
        logits_NM = self._images(pixels_N3SS) @ self._texts(distinct).T * self.model.logit_scale.exp().clamp(max=100)
        of_text_MN = F.one_hot(target, len(distinct)).T.float()
        of_text_MN = of_text_MN / of_text_MN.sum(1, keepdim=True)
        return (F.cross_entropy(logits_NM, target) + F.cross_entropy(logits_NM.T, of_text_MN)) / 2


def load_text(folder: Path, where: Place = PLAIN) -> TextEncoder:
    """The frozen text encoder of a folder."""
    device = where.device
    model = loading.from_folder(CLIPTextModel, folder, where.dtype).to(device)
    return TextEncoder(model, tokenizer(folder))


def load(folder: Path, where: Place = PLAIN) -> Clip:
    """The frozen CLIP of a folder, which prepares pictures as the folder says, if it does."""
    device = where.device
    model = loading.from_folder(CLIPModel, folder, where.dtype).to(device)
    return Clip(model, tokenizer(folder), preparation(folder / PREPARATION_FILE))


def tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer of a folder; ValueError where there is none."""
    has_files = (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    if not has_files and not (folder / "tokenizer.json").is_file():
        raise ValueError(f"{folder}: no tokenizer; it lacks vocab.json and merges.txt")
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises nothing more exact
        raise ValueError(f"{folder}: its tokenizer cannot be read: vocab.json or merges.txt is damaged") from error


def preparation(path: Path) -> Preparation:
    """What transformers' file of an image processor asks for; ours where there is no such file."""
    if not path.is_file():
        return Preparation()
    try:
        settings = read_json(path)
        mean, spread = (tuple(map(float, settings[f"image_{name}"])) for name in ("mean", "std"))
        return Preparation(mean, spread, bool(settings["do_center_crop"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not an image processor's settings ({error!r})") from error


def token_ids(tokenizer: CLIPTokenizer, texts: Sequence[str], length: int) -> Tensor:
    """Token ids (N, L), padded to `length`, longer texts cut."""
    ids: Tensor = tokenizer(
        list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def middle(picture: Picture) -> Picture:
    """The greatest square in the middle."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


def resized(pictures: Sequence[Picture], size: int) -> Tensor:
    """Pictures of any size as the vision tower takes them: (N, 3, S, S) in [-1, 1], bicubic."""
    square = [
        np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC)) for picture in pictures
    ]
    return torch.from_numpy(np.stack(square)).permute(0, 3, 1, 2).float() / 127.5 - 1
