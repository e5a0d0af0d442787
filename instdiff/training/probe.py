"""probe: pictures of fixed layouts while training runs, and whether instances are where and what they should be.

The loss hardly shows whether control is learned; this does. The layouts are the last of the shards, and are not trained
on; who finds is a choice as in `detect`, by default the foundation's detector, and the judge is the foundation's.
Legend: B pictures, N slots, C channels, h w latent cells, L tokens, D features.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from pydantic import PositiveInt
from torch import Tensor

from instdiff.data.samples import laid_out
from instdiff.layouts.geometry import crop, iou
from instdiff.model import conditions
from instdiff.model.unet import InstanceUNet
from instdiff.networks import clip, vae
from instdiff.networks.device import PLAIN
from instdiff.networks.finders import choice
from instdiff.networks.finders.choice import Choice
from instdiff.randomness import torch_generator
from instdiff.sampling.solvers import scheduler
from instdiff.schema import Compat, Layout, Share, Strict
from instdiff.training.accelerated import Accelerated
from instdiff.training.engine import Row
from instdiff.world.appearance import COLOURS

Picture = clip.Picture
MIN_IOU = 0.5  # of box and detection, for an instance to be in place


class ProbeParams(Strict):
    """How often, on how many layouts, and when to stop."""

    every: PositiveInt  # steps; a multiple of optimisation.log_every
    layouts: PositiveInt  # drawn each time
    steps: PositiveInt  # of the sampler
    guidance: float  # of the sampler
    finder: Choice | None  # who finds instances; null: the foundation's detector
    min_score: Share  # of a detection
    patience: int | None  # probes in a row without a higher share in place that end the training

    def other_weights(self, models: "Models") -> list[Path]:
        """What the finder reads beside the models."""
        return (
            [] if self.finder is None else [each for each in self.finder.weights(models.detector) if each not in models]
        )


class Models(NamedTuple):
    """Folders of what the probe draws and judges with."""

    text: Path
    vae: Path
    detector: Path
    judge: Path  # the CLIP that names colours and textures


class Probe:
    """Draws, judges and remembers nothing: when to stop is read off the log."""

    def __init__(
        self,
        params: ProbeParams,
        models: Models,
        layouts: Sequence[Layout],
        engine: Accelerated,
        pictures: Path,
        *,
        masked_attention: bool,
        compat: Compat | None,
    ) -> None:
        self.params, self.layouts, self.engine, self.pictures = params, layouts, engine, pictures
        self.masked_attention, self.compat = masked_attention, compat  # as it is trained
        self.text = clip.load_text(models.text)
        self.text.model.to(engine.device)
        if engine.rank == 0:
            name = "cpu" if engine.device.type == "cpu" else str(engine.device)  # of a process among several: cpu:0
            where = PLAIN.model_copy(update={"name": name})
            self.autoencoder = vae.load(models.vae, where)
            if params.finder is None:
                self.finder = choice.closed(models.detector, where)
            else:
                self.finder = choice.load(params.finder, models.detector, where)
            self.judge = clip.load(models.judge, where)
            pictures.mkdir(parents=True, exist_ok=True)

    def __call__(self, step: int, unet: InstanceUNet) -> Row:
        """Share of instances in place, share of right colour (of those whose phrase names one); {} between probes."""
        if step % self.params.every:
            return {}
        unet.eval()
        x_BChw = self.draw(unet)
        unet.train()
        return self.engine.on_first_process(partial(self._judged, step, x_BChw))

    def enough(self, rows: Sequence[Row]) -> bool:
        """Is the best share in place older than `patience` probes?"""
        shares = [row["in_place"] for row in rows if "in_place" in row]
        patience = self.params.patience
        return patience is not None and len(shares) > patience and max(shares[:-patience]) >= max(shares[-patience:])

    def _judged(self, step: int, x_BChw: Tensor) -> Row:
        pictures = self.decode(x_BChw)
        grid = sheet(pictures)
        Image.fromarray(grid).save(self.pictures / f"{step:08d}.png")
        self.engine.show_picture(step, grid)
        placed, coloured = list(self._placed(pictures)), list(self._coloured(pictures))
        row = {"in_place": float(np.mean(placed))} if placed else {}
        return row | ({"right_colour": float(np.mean(coloured))} if coloured else {})

    @torch.no_grad()
    def draw(self, unet: InstanceUNet) -> Tensor:
        """(B, C, h, w): one picture a layout with everything given, from noise that is the same in every probe.

        Every process draws, since each may hold a part of the network; the first one judges.
        """
        size, device = unet.config.sample_size, self.engine.device
        shape = (len(self.layouts), unet.config.in_channels, size, size)
        x_BChw = torch.randn(shape, generator=torch_generator(0, "probe")).to(device)
        captions = [self._features([instance.phrase for instance in layout.instances]) for layout in self.layouts]
        whole = laid_out(self.layouts, captions, unet.unifusion.config, self.compat).to(device)
        grid = (size, size) if self.masked_attention else None
        null_and_given = conditions.cat([conditions.null(whole), whole])
        grounding = unet.ground(null_and_given, masked=grid, compat=self.compat)
        tokens = self.text.tokens([*[""] * len(self.layouts), *(layout.prompt for layout in self.layouts)])
        solver = scheduler("dpm")
        solver.set_timesteps(self.params.steps)
        for timestep in solver.timesteps:
            without, along = unet(torch.cat([x_BChw, x_BChw]), timestep.to(device), tokens, grounding).sample.chunk(2)
            noise = without + self.params.guidance * (along - without)
            x_BChw = solver.step(noise, timestep, x_BChw, return_dict=False)[0]
        return x_BChw

    @torch.no_grad()
    def decode(self, x_BChw: Tensor) -> list[Picture]:
        """The pictures of some latents."""
        return list(vae.pictures(self.autoencoder.decode(x_BChw / self.autoencoder.config.scaling_factor).sample))

    def _features(self, phrases: Sequence[str]) -> Tensor:
        return self.text.pooled(["", *phrases])[1:].cpu()

    def _placed(self, pictures: Sequence[Picture]) -> Iterator[bool]:
        searched = [self._searched(layout) for layout in self.layouts]
        for layout, detections in zip(self.layouts, self.finder.find(pictures, searched), strict=True):
            for instance in layout.instances:
                if instance.box is not None:
                    yield any(
                        detection.category == instance.category
                        and detection.score >= self.params.min_score
                        and iou(detection.box, instance.box) >= MIN_IOU
                        for detection in detections
                    )

    def _searched(self, layout: Layout) -> Sequence[str]:
        """All that a closed finder knows; of an open one, the categories of the layout."""
        categories = {instance.category for instance in layout.instances if instance.category is not None}
        return self.finder.classes or sorted(categories)

    def _coloured(self, pictures: Sequence[Picture]) -> Iterator[bool]:
        """Does the judge prefer an instance's phrase to the same with another colour in its place?"""
        for layout, picture in zip(self.layouts, pictures, strict=True):
            for instance in layout.instances:
                words = instance.phrase.split()
                named = [word for word in words if word in COLOURS]
                if instance.box is not None and len(named) == 1:
                    others = [" ".join(colour if word == named[0] else word for word in words) for colour in COLOURS]
                    image_1D = self.judge.image_features([crop(picture, instance.box)])
                    best = int((image_1D @ self.judge.text_features(others).T).argmax())
                    yield list(COLOURS)[best] == named[0]


def sheet(pictures: Sequence[Picture]) -> Picture:
    """Pictures of one size in rows of four, black where there is none."""
    height, width, channels = pictures[0].shape
    rows = -(-len(pictures) // 4)
    whole = np.zeros((rows * height, min(4, len(pictures)) * width, channels), dtype=np.uint8)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, 4)
        whole[row * height : (row + 1) * height, column * width : (column + 1) * width] = picture
    return whole
