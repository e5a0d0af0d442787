"""Golden trajectories of samplers: their cases, and the denoiser of each."""

import copy
import json
from collections.abc import Mapping
from typing import Any

import golden_cases as golden
import torch
from torch import Tensor

from instdiff.model.conditions import cat, null, select
from instdiff.model.unet import InstanceUNet
from instdiff.sampling.guidance import with_guidance, with_reloaded_first_conv
from instdiff.sampling.protocol import Denoise

CLOSE = 2e-3  # of latents with a standard deviation of 9 to 15
CASES = json.loads((golden.FOLDER / "samplers.json").read_text())["cases"]


def denoiser(case: dict[str, Any]) -> Denoise:
    """Guidance over the pictures of a case, and with a share apart over its instances, too."""
    inputs, unet = golden.inputs("samplers"), golden.unet()
    conditions = golden.kept(case["drop_config"], inputs)
    text, null_text = inputs["context"], inputs["uc"]
    if "mis" in case:
        conditions = conditions.rows([0, 0])
        alone = [select(conditions, slot) for slot in range(3)]
        conditions = cat([conditions, *alone])
        text = torch.cat([text[:1], text[:1], *(inputs[f"inst_context_{slot}"].expand(2, -1, -1) for slot in range(3))])
        null_text = null_text[:1]
    arguments = text, unet.ground(conditions), null_text, unet.ground(null(conditions.rows([0])))
    options = {"guidance": case["guidance_scale"], "max_rows": 6}
    own = with_guidance(unet, *arguments, **options)
    if case["first_conv"] == "same":
        return own
    reloaded = with_guidance(
        with_first_conv(unet, golden.inputs("samplers", "in/alt_sd_first_conv.")), *arguments, **options
    )
    return with_reloaded_first_conv(own, reloaded, case["alphas"], case.get("mis_step", 0), num_pictures=2)


def with_first_conv(unet: InstanceUNet, weights: Mapping[str, Tensor]) -> InstanceUNet:
    other = copy.deepcopy(unet)
    other.conv_in.load_state_dict(weights)
    return other
