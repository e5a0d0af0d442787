"""One door for Python: the pipeline of whatever weights there are.

from instdiff.app.pipeline import pipeline

pipe = pipeline("instancediffusion_sd15.pth", tokenizer="clip-vit-large-patch14")
"""

from pathlib import Path

import torch

from instdiff.checkpoints import assemble
from instdiff.checkpoints.sizes import Sizes
from instdiff.model.drawing import SolverName
from instdiff.sampling.pipeline import InstanceDiffusionPipeline
from instdiff.sampling.solvers import scheduler


def pipeline(
    model: str | Path,
    *,
    instance: str | Path | None = None,
    tokenizer: str | Path | None = None,
    solver: SolverName | None = None,
    dtype: torch.dtype = torch.float32,
    file_sizes: Sizes | None = None,
) -> InstanceDiffusionPipeline:
    """The pipeline of a folder or file, in `dtype` on the CPU, drawing with `solver`, by default that of the layers.

    The other arguments, and what is refused, are those of `assemble.networks`.
    """
    parts = assemble.networks(model, instance=instance, tokenizer=tokenizer, dtype=dtype, file_sizes=file_sizes)
    steps = scheduler(solver or parts.unet.drawing.solver, parts.prediction)
    return InstanceDiffusionPipeline(parts.vae, parts.text_encoder, parts.tokenizer, parts.unet, steps)
