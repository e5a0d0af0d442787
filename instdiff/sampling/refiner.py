"""A refiner: an image-to-image pipeline that goes over finished pictures, as the released code has SDXL's do."""

from collections.abc import Sequence

import torch
from diffusers import DiffusionPipeline
from PIL import Image

REFINER_STEPS = 20


def refined(
    refiner: DiffusionPipeline, images: Sequence[Image.Image], prompts: Sequence[str], strength: float
) -> list[Image.Image]:
    """The pictures after an image-to-image pipeline with the same prompts, noised from seed 0 on."""
    pictures = []
    for number, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        noise = torch.Generator().manual_seed(number)
        output = refiner(
            prompt=prompt, image=image, strength=strength, num_inference_steps=REFINER_STEPS, generator=noise
        )
        pictures.append(output.images[0])
    return pictures
