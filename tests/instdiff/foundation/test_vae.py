"""The autoencoder's stage: its decoder may go on without what was trained on its latents noticing."""

from pathlib import Path

import pytest
import torch
import yaml
from diffusers import AutoencoderKL

from instdiff.config import compose
from instdiff.files import recipes
from instdiff.foundation import vae
from instdiff.networks import vae as vae_networks
from instdiff.world import corpus
from instdiff.world.arrangements import GROUPS

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "weights" / "miniature" / "vae"
SHORT = ["vae=continue", "vae.num_scenes=21", "vae.workers=1", "vae.optimisation.steps=3", "vae.optimisation.warmup=1"]


@pytest.fixture(scope="module")
def further(tmp_path_factory: pytest.TempPathFactory) -> AutoencoderKL:
    """The shipped autoencoder after three steps more."""
    folder = tmp_path_factory.mktemp("further")
    params = vae.Params.model_validate(yaml.safe_load(compose.composed(SHORT, ROOT / "configs"))["vae"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        vae.run(shipped=SHIPPED, vae=folder / "vae", params=params)
    assert recipes.read(folder / "vae")["before"] == recipes.read(SHIPPED)
    return vae_networks.load(folder / "vae")


def test_a_decoder_that_goes_on_leaves_every_latent_as_it_was(further: AutoencoderKL) -> None:
    before = vae_networks.load(SHIPPED)
    pictures = vae_networks.pixels(corpus.rendered(0, 7, GROUPS, 1).pictures_NHWC)
    with torch.no_grad():
        theirs, ours = (autoencoder.encode(pictures).latent_dist for autoencoder in (before, further))
        assert torch.equal(theirs.mean, ours.mean)
        assert torch.equal(theirs.std, ours.std)
        assert not torch.equal(before.decode(ours.mean).sample, further.decode(ours.mean).sample)
    assert before.config.scaling_factor == further.config.scaling_factor
