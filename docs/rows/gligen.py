"""GLIGEN through diffusers' own class, as a row of the table: layouts.json in, a picture a layout out.

    python docs/rows/gligen.py LAYOUTS OUT SEED WEIGHTS [STEPS]

Imports nothing of this repository: it runs in any environment with diffusers and the folder of a
StableDiffusionGLIGENPipeline (`masterful/gligen-1-4-generation-text-box`). The same forty lines serve any other class.
"""

import json
import sys
import zlib
from pathlib import Path

import torch
from diffusers import StableDiffusionGLIGENPipeline

MOST = 30  # instances that GLIGEN has slots for


def main(layouts: str, out: str, seed: str, weights: str, steps: str = "50") -> None:
    """Draw every layout of the file into the folder; a picture has its name once it is whole."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = StableDiffusionGLIGENPipeline.from_pretrained(
        weights, safety_checker=None, requires_safety_checker=False, local_files_only=True
    ).to(device)
    pipeline.set_progress_bar_config(disable=True)
    for layout in json.loads(Path(layouts).read_text(encoding="utf-8")):
        placed = [instance for instance in layout["instances"] if "box" in instance][:MOST]
        own_seed = zlib.crc32(f"{seed} {layout['key']}".encode())  # the picture of a key is the same in any batch
        picture = pipeline(
            layout["prompt"],
            gligen_phrases=[instance["phrase"] for instance in placed] or [""],  # it takes no empty list
            gligen_boxes=[instance["box"] for instance in placed] or [[0.0, 0.0, 0.0, 0.0]],
            gligen_scheduled_sampling_beta=1.0 if placed else 0.0,
            num_inference_steps=int(steps),
            generator=torch.Generator("cpu").manual_seed(own_seed),
        ).images[0]
        picture.save(Path(out) / f".{layout['key']}.png")
        (Path(out) / f".{layout['key']}.png").rename(Path(out) / f"{layout['key']}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
