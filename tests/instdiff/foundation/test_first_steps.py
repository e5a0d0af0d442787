"""The first steps of each recipe of the foundation, as they were: whatever changes the weights changes these losses.

`python tests/instdiff/foundation/test_first_steps.py` prints them anew, after a change that is meant.
"""

import csv
import os
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from instdiff.config import compose, values
from instdiff.foundation import blip, clip, sam, unet, vae
from instdiff.world import corpus

ROOT = Path(__file__).parents[3]
WEIGHTS = ROOT / "weights" / "miniature"
FEW = "num_scenes=28", "workers=1", "optimisation.steps=4", "optimisation.warmup=1", "optimisation.log_every=1"
LOSSES = {
    "clip@judge": [3.69097, 4.68372, 4.11248],
    "vae": [0.423103, 0.300470, 0.343906, 0.292049],
    "unet": [0.903744, 0.657258, 0.625840, 0.471001],
    "sam": [4.330128, 4.142274, 3.967296, 3.794567],
    "blip": [3.404860, 3.118575, 2.912211, 2.783089],
}
RESULTS = {
    "clip@judge": {},
    "vae": {"psnr": 14.2684, "latent_std": 1.2842, "latent_mean": -0.1912},
    "unet": {"samples": 24},
    "sam": {},
    "blip": {},
}


@cache
def sections() -> dict[str, Any]:
    few = [f"{stage}.{value}" for stage in ("clip", "vae", "unet", "sam", "blip") for value in FEW]
    few += ["sam.batch_size=2", "blip.batch_size=8"]
    few += ["clip.crops=8", "clip.pictures=4", "clip.steps={text:3,judge:3}", "vae.batch_size=4", "unet.batch_size=6"]
    return dict(yaml.safe_load(compose.composed(["clip=train", "vae=train", "unet=train", *few], ROOT / "configs")))


def run(recipe: str, folder: Path) -> dict[str, float]:
    """A few steps; what the stage says of the result."""
    name, _, role = recipe.partition("@")
    own = values.section(sections(), name)
    if name == "clip":
        return clip.run(shipped=WEIGHTS, clip=folder / recipe, role=role, params=clip.Params.model_validate(own))
    if name == "vae":
        return vae.run(shipped=WEIGHTS, vae=folder / recipe, params=vae.Params.model_validate(own))
    if name == "sam":
        return sam.run(sam=folder / recipe, params=sam.Params.model_validate(own))
    if name == "blip":
        return blip.run(blip=folder / recipe, params=blip.Params.model_validate(own))
    assert name == "unet"
    params = unet.Params.model_validate(own)
    return unet.run(
        shipped=WEIGHTS, text=WEIGHTS / "clip" / "text", vae=WEIGHTS / "vae", unet=folder / recipe, params=params
    )


def losses(folder: Path) -> list[float]:
    with (folder / "log.csv").open(encoding="utf-8") as log:
        return [float(row["loss"]) for row in csv.DictReader(log)]


@pytest.mark.parametrize("recipe", LOSSES)
def test_the_first_losses_of_a_recipe_are_those_that_they_were(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for stage, name in ((clip, "accuracies"), (blip, "accuracies"), (sam, "accuracy")):
        monkeypatch.setattr(stage, name, lambda *_: {})  # on 400 pictures, which take longer than the steps
    render = corpus.rendered
    monkeypatch.setattr(corpus, "rendered", lambda seed, count, *how: render(seed, min(count, 28), *how))
    result = run(recipe, tmp_path)
    assert losses(tmp_path / recipe) == pytest.approx(LOSSES[recipe], rel=1e-3)
    assert result == pytest.approx(RESULTS[recipe], rel=1e-2)  # floats differ a little by machine


if __name__ == "__main__":
    for recipe in LOSSES:
        with TemporaryDirectory() as scratch:
            os.chdir(scratch)
            run(recipe, Path(scratch))
            sys.stdout.write(f'    "{recipe}": {losses(Path(scratch) / recipe)},\n')
