"""Sizes that a folder states or the shapes of weights tell, and networks that do not go together."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from instdiff.checkpoints import assemble, key_tables, official, open_clip, sizes
from instdiff.model.unifusion import UniFusion, UniFusionConfig


def folders(root: Path, **autoencoder: Any) -> tuple[Path, Path, Path]:
    configs = {
        "unet": {"_class_name": "UNet2DConditionModel", "sample_size": 8, "attention_type": "gated", "no_such": 1},
        "vae": {"_class_name": "AutoencoderKL", "latent_channels": 4, "no_such": 1} | autoencoder,
        "text": {"hidden_size": 16, "num_attention_heads": 2},
    }
    for name, config in configs.items():
        (root / name).mkdir()
        (root / name / "config.json").write_text(json.dumps(config))
    return root / "unet", root / "vae", root / "text"


def test_what_a_network_takes_is_read_and_the_rest_is_left(tmp_path: Path) -> None:
    network_sizes = sizes.of_folders(*folders(tmp_path))
    assert network_sizes.unet == {"sample_size": 8}
    assert network_sizes.vae == {"latent_channels": 4}
    assert (network_sizes.text["hidden_size"], network_sizes.text["num_attention_heads"]) == (16, 2)


@pytest.mark.parametrize("name", ["shift_factor", "latents_mean", "latents_std"])
def test_an_autoencoder_with_a_shift_of_its_own_is_refused_by_the_settings_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"vae/config\.json: {name} is set"):
        sizes.of_folders(*folders(tmp_path, **{name: 0.5}))


def test_a_setting_that_is_null_is_not_set(tmp_path: Path) -> None:
    sizes.of_folders(*folders(tmp_path, shift_factor=None, latents_mean=None))


def test_another_autoencoder_and_settings_that_are_none_are_refused(tmp_path: Path) -> None:
    places = folders(tmp_path, _class_name="AutoencoderTiny")
    with pytest.raises(ValueError, match="a AutoencoderTiny, expected an AutoencoderKL"):
        sizes.of_folders(*places)
    (places[0] / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds no settings by name"):
        sizes.of_folders(*places)
    (places[0] / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"has no readable unet/config\.json"):
        sizes.of_folders(*places)


def network(**config: Any) -> Any:
    return SimpleNamespace(config=config)


def refused(*, channels: int = 4, out: int = 4, latent: int = 4, width: int = 8, text: int = 8, words: int = 5) -> None:
    unet = network(in_channels=channels, out_channels=out, cross_attention_dim=width)
    encoder: Any = SimpleNamespace(config=SimpleNamespace(hidden_size=text, vocab_size=5))
    tokens: Any = range(words)
    assemble.refuse_mismatch("base", network(latent_channels=latent), encoder, tokens, unet)


def test_networks_that_go_together_are_taken_up_to_the_last_token() -> None:
    refused()
    refused(words=4)
    refused(channels=9, out=9, latent=9)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"channels": 9}, "its UNet takes 9 and gives 4 channels, its autoencoder has 4"),
        ({"out": 8}, "its UNet takes 4 and gives 8 channels, its autoencoder has 4"),
        ({"latent": 16}, "its UNet takes 4 and gives 4 channels, its autoencoder has 16"),
        ({"width": 7}, "its UNet reads texts of width 7, its text encoder gives 8"),
        ({"text": 9}, "its UNet reads texts of width 8, its text encoder gives 9"),
        ({"words": 6}, "its text encoder knows 5 tokens, the tokenizer 6"),
    ],
)
def test_networks_that_do_not_are_refused_with_both_sides(change: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        refused(**change)


def open_clip_weights(width: int, text_width: int, depth: int, cells: int) -> dict[str, torch.Tensor]:
    shapes = {
        "text_projection": (text_width, 24),
        "visual.conv1.weight": (width, 3, 7, 7),
        "visual.positional_embedding": (cells**2 + 1, width),
        "token_embedding.weight": (50, text_width),
        "positional_embedding": (11, text_width),
    }
    for prefix, wide in (("visual.transformer.", width), ("transformer.", text_width)):
        for number in range(depth):
            shapes[f"{prefix}resblocks.{number}.mlp.c_fc.weight"] = (3 * wide, wide)
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.parametrize(("width", "heads"), [(32, 1), (64, 1), (128, 2), (768, 12)])
def test_openclips_sizes_are_told_by_the_shapes_of_its_weights(width: int, heads: int) -> None:
    tokenizer: Any = SimpleNamespace(bos_token_id=7, eos_token_id=8, pad_token_id=9)
    config = open_clip.sizes(open_clip_weights(width, 192, 5, 4), tokenizer, "file")
    tower = {"num_hidden_layers": 5, "projection_dim": 24, "hidden_act": "gelu"}
    assert config["projection_dim"] == 24
    assert config["vision_config"] == {
        "image_size": 28,
        "patch_size": 7,
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_attention_heads": heads,
        **tower,
    }
    assert config["text_config"] == {
        "vocab_size": 50,
        "max_position_embeddings": 11,
        "bos_token_id": 7,
        "eos_token_id": 8,
        "pad_token_id": 9,
        "hidden_size": 192,
        "intermediate_size": 576,
        "num_attention_heads": 3,
        **tower,
    }


@pytest.mark.parametrize("name", ["text_projection", "visual.conv1.weight", "token_embedding.weight"])
def test_a_weight_that_tells_a_size_and_is_not_there_is_named(name: str) -> None:
    weights = open_clip_weights(64, 64, 1, 2)
    del weights[name]
    with pytest.raises(ValueError, match=f"file: not the weights of an OpenCLIP .*{name}"):
        open_clip.sizes(weights, SimpleNamespace(bos_token_id=1, eos_token_id=2, pad_token_id=0), "file")  # type: ignore[arg-type]


SMALL = official.OFFICIAL_UNIFUSION.model_copy(
    update={
        "max_instances": 5,
        "text_width": 6,
        "token_width": 7,
        "hidden_width": 9,
        "num_scribble_points": 3,
        "num_outline_points": 4,
        "mask_size": 64,
        "mask_widths": (10, 11),
        "mask_depths": (2, 1),
    }
)


@pytest.mark.parametrize("config", [official.OFFICIAL_UNIFUSION, SMALL], ids=["released", "small"])
def test_unifusions_sizes_are_told_by_the_shapes_of_its_weights(config: UniFusionConfig) -> None:
    with torch.device("meta"):
        own = UniFusion(config).state_dict()
    shape = key_tables.UNetShape(2, frozenset())
    named = {key_tables.official_unet(f"unifusion.{name}", shape): tensor for name, tensor in own.items()}
    assert sizes.unifusion_sizes(named, "some") == config
    for scaled in (False, True):
        whole = named | ({"scaleu_b_0": torch.ones(1)} if scaled else {})
        unet = sizes.sizes(whole, "some", sizes.Sizes()).unet
        stated = {"unifusion_config": config.model_dump(mode="json"), "scale_u": scaled}
        assert unet == {**official.SD15_UNET, **stated}
    assert sizes.sizes({}, "some", sizes.Sizes()) == sizes.Sizes()
    with pytest.raises(ValueError, match=r"some: its UniFusion \(position_net\) is not complete: 'in_conv.weight'"):
        sizes.unifusion_sizes({name: tensor for name, tensor in named.items() if "in_conv" not in name}, "some")
