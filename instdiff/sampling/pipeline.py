"""InstanceDiffusionPipeline: a prompt and instances (a phrase, and any way to say where) -> pictures.

    pipe = InstanceDiffusionPipeline.from_pretrained(folder)
    cat = Instance(phrase="a grey cat", box=Box(0.1, 0.2, 0.5, 0.9))
    picture = pipe("a cat and a dog", [cat, {"phrase": "a brown dog", "point": (0.7, 0.5)}]).images[0]

Legend: B layouts, P pictures (several a layout), R rows of a batch (pictures, then instances drawn alone),
N slots, L text positions, D features, C channels, h w latent cells, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from instdiff.layouts import from_python
from instdiff.layouts.complete import complete
from instdiff.layouts.formats import FORMATS, Format
from instdiff.model import attention_mask, conditions
from instdiff.model.conditions import Conditions
from instdiff.model.drawing import Drawing, MaskedAttention, Merge, chosen
from instdiff.model.grounding import Grounding
from instdiff.model.grounding import cat as cat_groundings
from instdiff.model.unet import InstanceUNet
from instdiff.networks import vae as pixels
from instdiff.networks.clip import TextEncoder
from instdiff.sampling import guidance, memory, multi_instance
from instdiff.sampling.few_steps import StepNoise, with_noise
from instdiff.sampling.finite import by_vae, finite
from instdiff.sampling.protocol import Solver
from instdiff.sampling.refiner import refined
from instdiff.sampling.solvers import solver
from instdiff.schema import Compat, Layout

Generators = torch.Generator | Sequence[torch.Generator]


class LoraFit(TypedDict):
    """How much of a LoRA file fits the networks: matrices that it updates here, and all that it would update."""

    fitted: int
    total: int


@dataclass(frozen=True)
class Rows:
    """Text and grounding of every row of a batch, and the picture it belongs to; the first rows are the pictures."""

    text_RLD: Tensor
    grounding: Grounding | None
    picture_R: Tensor  # the picture each row belongs to
    null_text_1LD: Tensor
    null_grounding: Grounding | None
    num_pictures: int
    region_RHW: Tensor | None = None  # latent cells of each row's place


@dataclass(frozen=True)
class Walk:
    """From noise to pictures: the solver, where it begins, and what counts in which of its steps."""

    steps: Solver[Any]
    gates: Sequence[float]  # of each step: how much instances count
    guided: range | None  # the steps with guidance; None: all
    noise_PChw: Tensor
    clean_PChw: Tensor | None  # of pictures to start from
    first: int  # the step it begins with

    @property
    def size(self) -> tuple[int, int]:
        """Latent cells, down and across."""
        return self.noise_PChw.shape[-2], self.noise_PChw.shape[-1]


class InstanceDiffusionPipeline(DiffusionPipeline, StableDiffusionLoraLoaderMixin):
    """Draws pictures of layouts with a Stable Diffusion that has instance layers.

    LoRA weights, `save_pretrained`, `from_pretrained`, `to`, `enable_model_cpu_offload` are those of diffusers;
    `pipe.unet.compile()` compiles the network.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: InstanceUNet,
        scheduler: Any,
    ) -> None:
        super().__init__()
        self.lora_fits: dict[str, LoraFit] = {}  # of each adapter that was added
        self.padded = False  # whether passes are filled up to few sizes: for compiled code, see guidance.Guided
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)

    @property
    def text(self) -> TextEncoder:
        """The text encoder and its tokenizer."""
        return TextEncoder(self.text_encoder, self.tokenizer)

    @property
    def scale(self) -> int:
        """Pixels along a side of one latent cell."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Layout | Sequence[str | Layout],
        instances: Sequence[Any] = (),
        *,
        negative_prompt: str | None = None,
        num_images_per_prompt: int = 1,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        reuse: int = 1,
        alpha: float | None = None,
        mis: float | None = None,
        merge: Merge | None = None,
        formats: Collection[Format] = FORMATS,
        masked_attention: MaskedAttention | None = None,
        generator: Generators | None = None,
        latents: Tensor | None = None,
        step_noise: StepNoise | None = None,
        image: Image.Image | Sequence[Image.Image] | None = None,
        strength: float = 1.0,
        refiner: DiffusionPipeline | None = None,
        cascade_strength: float = 0.35,
        max_rows: int = 16,
        compat: Compat | None = None,
        after_step: Callable[[], object] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """Pictures at `.images`: those of the first layout, then of the next.

        `prompt` is a text or a Layout, or several; for a text, `instances` lists its instances (for several texts, a
        list for each), each an Instance or a dictionary of its fields, its mask also a picture of PIL or an array.
        `formats` are those that count; with none of them the picture is drawn from the text alone. `height` and `width`
        are in pixels.

        For the share `alpha` of the steps instances count, for the share `mis` they are drawn alone; then the picture
        goes on from the mean, or from each instance's latents in its own place (`merge="regions"`). With
        `masked_attention` instances see only their own place, at every level of the network or the "finest" alone.
        These, steps, guidance and negative prompt are those of the layers (`pipe.unet.drawing`) where they are None.

        Cheaper and not exact: guidance in an interval of the steps alone, as shares from the noisiest on
        (`guidance_interval`); the deep levels of the network in every `reuse`-th step only. `step_noise` gives the
        noise (P, C, h, w) that a few-step solver adds in a step, by the step's number.

        `generator` is one for the whole batch or one a picture; `latents` (P, C, h, w) takes the place of the noise it
        draws. With `image` only the share `strength` of the steps is taken, from that picture under the same noise. A
        `refiner` (SDXL image-to-image) goes over each picture with `cascade_strength`. At most `max_rows` rows share a
        forward pass. `compat="reference"` gives the numbers of the released code where it differs; `output_type` is
        "pil" or "latent". ValueError says in one sentence what does not fit.
        """
        layouts = from_python.layouts(prompt, instances)
        how = chosen(
            self.unet.drawing,
            {
                "steps": num_inference_steps,
                "guidance": guidance_scale,
                "negative_prompt": negative_prompt,
                "alpha": alpha,
                "mis": mis,
                "merge": merge,
                "masked_attention": masked_attention,
            },
        )
        if reuse < 1:
            raise ValueError(f"reuse {reuse}: the deep levels are evaluated in every 1st, 2nd, ... step")
        noise_PChw = self._noise(len(layouts) * num_images_per_prompt, height, width, generator, latents)
        walk = self._walk(how, guidance_interval, noise_PChw, image, strength)
        is_apart = bool(formats) and multi_instance.num_separate_steps(walk.steps.num_steps, how.mis) > walk.first
        num_apart = num_images_per_prompt * sum(len(layout.instances) for layout in layouts) if is_apart else 0
        self._refuse_too_large(walk, num_apart, how, max_rows, masked=bool(how.masked_attention) and bool(formats))
        rows = self._rows(
            layouts, num_images_per_prompt, how, formats, walk.size, apart=is_apart, max_rows=max_rows, compat=compat
        )
        denoise = guidance.with_guidance(
            self.unet,
            rows.text_RLD,
            rows.grounding,
            rows.null_text_1LD,
            rows.null_grounding,
            guidance=how.guidance,
            max_rows=max_rows,
            picture_R=rows.picture_R,
            num_pictures=rows.num_pictures,
            steps=walk.guided,
            reuse=reuse,
            padded=self.padded,
        )
        latents_PChw = multi_instance.sample_multi_instance(
            denoise,
            denoise,
            walk.noise_PChw,
            with_noise(walk.steps, step_noise, rows.picture_R),
            walk.gates,
            picture_R=rows.picture_R,
            share=how.mis if is_apart else 0,
            clean_BCHW=walk.clean_PChw,
            first=walk.first,
            after_step=after_step,
            region_RHW=rows.region_RHW,
            compat=compat,
        )
        images: Any = finite(latents_PChw, "latents", self.unet.dtype)
        if output_type == "pil":
            images = self._decode(latents_PChw, max_rows, compat)
            if refiner is not None and cascade_strength > 0:
                prompts = [layout.prompt for layout in layouts for _ in range(num_images_per_prompt)]
                images = refined(refiner, images, prompts, cascade_strength)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _walk(
        self,
        how: Drawing,
        guidance_interval: tuple[float, float],
        noise_PChw: Tensor,
        image: Image.Image | Sequence[Image.Image] | None,
        strength: float,
    ) -> Walk:
        """The walk from this noise, or from pictures under it."""
        steps = solver(self.scheduler, how.steps)
        guided = guidance.guided_steps(steps.num_steps, guidance_interval)
        gates = guidance.gates(steps.num_steps, how.alpha)
        clean_PChw = None if image is None else self._encode(image, noise_PChw)
        if not 0 < strength <= 1:
            raise ValueError(f"strength {strength} must lie above 0 and at most at 1")
        first = 0 if image is None else steps.num_steps - int(steps.num_steps * strength)
        if first == steps.num_steps:
            raise ValueError(f"strength {strength} of {steps.num_steps} steps is less than one step")
        return Walk(steps, gates, guided, noise_PChw, clean_PChw, first)

    def _refuse_too_large(self, walk: Walk, num_apart: int, how: Drawing, max_rows: int, *, masked: bool) -> None:
        """ValueError where drawing needs more memory than is free; `num_apart` instances are drawn apart."""
        height, width = (cells * self.scale for cells in walk.size)
        rows = memory.rows(len(walk.noise_PChw), num_apart, how.guidance, max_rows)
        size = memory.Size(height, width, *rows, masked=masked)
        device, width_of_number = walk.noise_PChw.device, self.unet.dtype.itemsize
        memory.refuse_too_large(self.unet.config, self.vae.config, size, device, width_of_number)

    def _rows(
        self,
        layouts: Sequence[Layout],
        num_images: int,
        how: Drawing,
        formats: Collection[Format],
        size: tuple[int, int],
        *,
        apart: bool,
        max_rows: int,
        compat: Compat | None,
    ) -> Rows:
        """Text and grounding of all rows, computed once for all steps."""
        device, masked = self._execution_device, how.masked_attention
        picture_of = [number for number in range(len(layouts)) for _ in range(num_images)]
        null_text_1LD = self.text.tokens([how.negative_prompt])
        prompts = [layout.prompt for layout in layouts]
        if not formats:
            text_RLD = self.text.tokens(prompts)[picture_of]
            picture_R = torch.arange(len(text_RLD), device=device)
            return Rows(text_RLD, None, picture_R, null_text_1LD, None, len(picture_of))
        whole = self.conditions(layouts, formats, compat)
        counts = [len(layout.instances) for layout in layouts]
        of_rows, layout_of = multi_instance.alone_rows(whole, counts) if apart else (whole, [*range(len(layouts))])
        phrases = [instance.phrase for layout in layouts for instance in layout.instances] if apart else []
        row_R, pictures = repeat_rows(layout_of, picture_of, len(layouts))
        parts = [of_rows.rows(slice(start, start + max_rows)) for start in range(0, len(of_rows), max_rows)]
        grounding = cat_groundings([self._ground(part, size, masked, compat, device) for part in parts]).rows(row_R)
        null = self._ground(conditions.null(whole.rows(slice(1))), size, masked, compat, device)
        text_RLD = self.text.tokens([*prompts, *phrases])[row_R]
        region_RHW = None
        if apart and how.merge == "regions":  # an instance that is drawn alone is in slot 0
            region_RHW = attention_mask.regions(of_rows, *size)[row_R, 0].unflatten(1, size).to(device)
        picture_R = torch.tensor(pictures, device=device)
        return Rows(text_RLD, grounding, picture_R, null_text_1LD, null, len(picture_of), region_RHW)

    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, int, int]:
        """(C, h, w) of a picture's latents; height and width in pixels, by default the network's own."""
        side = self.unet.config.sample_size * self.scale
        height, width = height or side, width or side
        if height % self.scale or width % self.scale or min(height, width) < self.scale:
            raise ValueError(f"height {height} and width {width} must be multiples of {self.scale}")
        return int(self.unet.config.in_channels), height // self.scale, width // self.scale

    def conditions(
        self, layouts: Sequence[Layout], formats: Collection[Format] = FORMATS, compat: Compat | None = None
    ) -> Conditions:
        """Conditions of the layouts, on the CPU: completed, of these formats."""
        phrases = sorted({instance.phrase for layout in layouts for instance in layout.instances}) or [""]
        slots, features = self.unet.unifusion.config, self.text.pooled(phrases)
        completed = [complete(layout, slots, compat) for layout in layouts]
        collated = conditions.collate(completed, dict(zip(phrases, features, strict=True)), slots)
        return conditions.keep(collated, formats)

    def _ground(
        self,
        of_rows: Conditions,
        size: tuple[int, int],
        masked: MaskedAttention,
        compat: Compat | None,
        device: torch.device,
    ) -> Grounding:
        """Tokens on the device of the forward passes, computed where the network's weights are now."""
        at_home = self.unet.unifusion.mask_position.device
        grounding: Grounding = self.unet.ground(
            of_rows.to(at_home), masked=size if masked else None, finest=masked == "finest", compat=compat
        )
        return grounding.to(device)

    def _noise(
        self,
        count: int,
        height: int | None,
        width: int | None,
        generator: Generators | None,
        latents: Tensor | None,
    ) -> Tensor:
        """(P, C, h, w) in float32: `latents`, or noise from the generator."""
        device = self._execution_device
        shape = (count, *self.latent_shape(height, width))
        if latents is not None:
            if latents.shape[:2] != shape[:2]:
                raise ValueError(f"latents are {tuple(latents.shape)}, expected {shape}")
            return latents.to(device, torch.float32)
        if not isinstance(generator, torch.Generator | None):
            generator = list(generator)
            if len(generator) != count:
                raise ValueError(f"{len(generator)} generators for {count} pictures: give one, or one a picture")
        noise: Tensor = randn_tensor(shape, generator, device, torch.float32)
        return noise

    def _encode(self, image: Image.Image | Sequence[Image.Image], noise_PChw: Tensor) -> Tensor:
        """(P, C, h, w): means of the latents of one picture for all, or one a picture, brought to the noise's size."""
        images = [image] if isinstance(image, Image.Image) else list(image)
        if len(images) not in {1, len(noise_PChw)}:
            raise ValueError(f"{len(images)} images to start from for {len(noise_PChw)} pictures")
        size = (noise_PChw.shape[-1] * self.scale, noise_PChw.shape[-2] * self.scale)
        array = np.stack([np.asarray(picture.convert("RGB").resize(size)) for picture in images])
        input_P3HW = pixels.pixels(array).to(noise_PChw.device)
        latents = by_vae(
            self.vae, lambda part: self.vae.encode(part).latent_dist.mode(), input_P3HW, "latents of --image"
        )
        scaled: Tensor = latents * self.vae.config.scaling_factor
        return scaled.expand(len(noise_PChw), -1, -1, -1)

    def _decode(self, latents_PChw: Tensor, max_rows: int, compat: Compat | None) -> list[Image.Image]:
        scaled = latents_PChw / self.vae.config.scaling_factor
        parts = [
            by_vae(self.vae, lambda rows: self.vae.decode(rows).sample, part, "pictures")
            for part in scaled.split(max_rows)
        ]
        arrays = (pixels.pictures(part, rounded=compat != "reference") for part in parts)
        return [Image.fromarray(picture) for array in arrays for picture in array]


def repeat_rows(layout_of: Sequence[int], picture_of: Sequence[int], num_layouts: int) -> tuple[list[int], list[int]]:
    """The row of the layouts that each row of the batch repeats, and its picture: pictures first, then their instances.

    `layout_of` holds the layout of each row, `picture_of` that of each picture; the first rows are the layouts.
    """
    alone: dict[int, list[int]] = {number: [] for number in range(num_layouts)}
    for row, layout in enumerate(layout_of[num_layouts:], start=num_layouts):
        alone[layout].append(row)
    instances = [(row, picture) for picture, layout in enumerate(picture_of) for row in alone[layout]]
    return [*picture_of, *(row for row, _ in instances)], [*range(len(picture_of)), *(who for _, who in instances)]
