"""train: shards and their embeddings -> instance layers on the frozen base.

Legend: S samples, V 2 views (as drawn, mirrored), B batch, C channels, h w latent cells, L tokens, D features.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from instdiff import atomic, conditions, embeddings, shards, stage
from instdiff.conditions import Conditions, collate
from instdiff.diffusion import eps_loss, noised, stratified_timesteps
from instdiff.drops import Odds, drop
from instdiff.embeddings import Embedded, Empty
from instdiff.fit import Optimisation, fit
from instdiff.foundation import recipe
from instdiff.foundation import unet as base
from instdiff.randomness import generator, torch_generator
from instdiff.schema import Strict
from instdiff.unet import InstanceUNet
from instdiff.unifusion import UniFusionConfig


class Params(Strict):
    """What is trained, on what share of the conditions, and how long."""

    seed: int
    unifusion: UniFusionConfig
    scale_u: bool
    masked_attention: bool
    latent_spread: float  # 1 draws latents from the autoencoder's posterior, 0 takes its mean, as the base was trained
    drop_caption: float  # share of samples without the prompt
    odds: Odds  # of withholding formats
    min_snr: float | None
    batch_size: int
    optimisation: Optimisation


class Samples:
    """The training set in memory: latents, prompts and conditions of every picture and its mirror image."""

    def __init__(self, shards_folder: Path, embedded: Embedded, empty: Empty, sizes: UniFusionConfig) -> None:
        layouts = [sample.layout for sample in shards.read(shards_folder)]
        if tuple(layout.key for layout in layouts) != embedded.keys:
            raise ValueError(f"{shards_folder}: the embeddings were made for other shards")
        features = {
            instance.phrase: feature
            for number, layout in enumerate(layouts)
            for instance, feature in zip(layout.instances, embedded.phrases(number), strict=True)
        }
        drawn = collate(
            [conditions.complete(layout) for layout in layouts],
            features,
            max_instances=sizes.max_instances,
            mask_size=sizes.mask_size,
            num_scribble_points=sizes.num_scribble_points,
            num_outline_points=sizes.num_outline_points,
        )
        self.views = (drawn, conditions.mirrored(drawn))
        self.embedded, self.empty = embedded, empty

    def __len__(self) -> int:
        return len(self.embedded.keys)

    def batch(
        self, chosen: Tensor, mirrored: Tensor, silent: Tensor, spread: float, noise: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Latents (B, C, h, w), as far from the posterior's mean as `spread` says, and prompts (B, L, D)."""
        mean = self.embedded.latent_mean_SVChw[chosen, mirrored.long()].float()
        deviation = self.embedded.latent_std_SVChw[chosen, mirrored.long()].float()
        prompts = self.embedded.prompt_SLD[chosen].float()
        latents = mean + spread * deviation * torch.randn(mean.shape, generator=noise)
        return latents, torch.where(silent[:, None, None], self.empty.prompt_LD, prompts)

    def conditions(self, chosen: Tensor, mirrored: Tensor) -> Conditions:
        """Where the instances of these samples are, in these views; rows come in the order of `chosen`."""
        both = conditions.cat([view.rows(chosen) for view in self.views])
        return both.rows(torch.arange(len(chosen)) + len(chosen) * mirrored.long())


def train(params: Params, samples: Samples, unet: InstanceUNet, scratch: Path, log: Path) -> None:
    """Fit the instance layers of `unet`; its base is frozen and gets no gradients."""
    unet.freeze_base()
    latent = samples.embedded.latent_mean_SVChw.shape[-2:]
    grid = (int(latent[0]), int(latent[1])) if params.masked_attention else None

    def loss(step: int) -> Tensor:
        draw, noise = generator(params.seed, "train", step), torch_generator(params.seed, "train", step)
        chosen = torch.from_numpy(draw.integers(len(samples), size=params.batch_size))
        mirrored = torch.from_numpy(draw.random(params.batch_size) < 0.5)
        silent = torch.from_numpy(draw.random(params.batch_size) < params.drop_caption)
        latents_BChw, prompts_BLD = samples.batch(chosen, mirrored, silent, params.latent_spread, noise)
        grounding = unet.ground(drop(samples.conditions(chosen, mirrored), params.odds, noise), masked=grid)
        noise_BChw = torch.randn(latents_BChw.shape, generator=noise)
        timesteps_B = stratified_timesteps(params.batch_size, noise)
        predicted = unet(noised(latents_BChw, noise_BChw, timesteps_B), timesteps_B, prompts_BLD, grounding).sample
        return eps_loss(predicted, noise_BChw, timesteps_B, params.min_snr)

    fit(unet, loss, params.optimisation, scratch=scratch, log=log, probe=gates)


def gates(_: int, unet: nn.Module) -> dict[str, float]:
    """How far the gates have opened: the mean of |tanh(alpha)|, and of |tanh| over ScaleU's factors."""
    alphas = [weight.detach() for name, weight in unet.named_parameters() if "alpha_" in name]
    scales = [weight.detach() for name, weight in unet.named_parameters() if ".scale_u." in name]
    opened = {"gate": torch.stack(alphas).tanh().abs().mean().item()}
    return opened | (
        {"scale_u": torch.cat([one.flatten() for one in scales]).tanh().abs().mean().item()} if scales else {}
    )


def run(*, shards: Path, embeddings: Path, unet: Path, instance: Path, params: Params) -> dict[str, float]:
    """Shards, embeddings, base -> instance layers."""
    samples = _samples(shards, embeddings, params)
    torch.manual_seed(params.seed)
    model = InstanceUNet.from_base(base.load(unet), params.unifusion, scale_u=params.scale_u)
    scratch = recipe.scratch(params, recipe.digest(shards), recipe.digest(embeddings), recipe.digest(unet))
    with atomic.folder(instance) as part:
        train(params, samples, model, scratch, part / "log.csv")
        model.save_instance_layers(part / "layers")
        weights = sum(weight.numel() for weight in model.instance_layers().values())
        metrics = {"samples": float(params.batch_size * params.optimisation.steps), "parameters": float(weights)}
        recipe.record(part, params, metrics)
    recipe.clear(scratch)
    return metrics


def _samples(folder: Path, embedded: Path, params: Params) -> Samples:
    whole = embeddings.join(list(embeddings.read(embedded)))
    return Samples(folder, whole, embeddings.read_empty(embedded), params.unifusion)


if __name__ == "__main__":
    stage.main(run)
