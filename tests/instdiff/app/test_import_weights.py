"""Published weights become a foundation: every form they come in, checked by hash, and nothing in them executed."""

import hashlib
import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from malicious import Malicious
from tiny_pipeline import TOKENIZER, base, shared
from torch import Tensor
from transformers import CLIPModel
from weight_forms import clip_of, official_parts, one_file, ours, port, released, sizes

from instdiff import __main__ as command
from instdiff.app import import_weights as importer
from instdiff.app.pipeline import pipeline
from instdiff.checkpoints import assemble
from instdiff.files import provenance, recipes
from instdiff.networks import clip, detector

SHIPPED = TOKENIZER.parents[1]


def bring_in(out: Path, *more: str) -> None:
    importer.main(["--out", str(out), "--tokenizer", str(TOKENIZER), *more], sizes())


def test_a_file_of_stable_diffusion_becomes_the_folders_that_the_stages_copy(tmp_path: Path) -> None:
    out = tmp_path / "weights"
    bring_in(out, "--base", str(one_file(tmp_path)), "--instance", str(released(tmp_path)))
    pipe = pipeline(out, instance=out / "instance")
    for name in ("vae", "text_encoder", "unet"):
        theirs = getattr(shared(), name).state_dict()
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in getattr(pipe, name).state_dict().items())
    sum_of = hashlib.sha256((tmp_path / "sd.safetensors").read_bytes()).hexdigest()
    for name in ("vae", "unet", "clip/text"):
        recipes.copy(out / name, tmp_path / "copied" / name)
        assert recipes.read(tmp_path / "copied" / name)["params"]["files"]["sd.safetensors"] == sum_of


def test_the_instance_layers_of_a_released_file_come_with_its_base(tmp_path: Path) -> None:
    bring_in(tmp_path / "weights", "--base", str(released(tmp_path)))
    pipe = pipeline(tmp_path / "weights", instance=tmp_path / "weights" / "instance")
    assert all(torch.equal(a, b) for a, b in zip(pipe.unet.parameters(), shared().unet.parameters(), strict=True))


def test_one_assembly_is_held_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[weakref.ref[torch.nn.Module]] = []
    build = assemble.build

    def recorded(*arguments: Any, **options: Any) -> Any:
        assert [unet() for unet in built] == [None] * len(built)
        networks = build(*arguments, **options)
        built.append(weakref.ref(networks.unet))
        return networks

    monkeypatch.setattr(assemble, "build", recorded)
    bring_in(tmp_path / "weights", "--base", str(one_file(tmp_path)), "--instance", str(released(tmp_path)))
    assert len(built) == 2


def test_layers_that_do_not_fit_leave_nothing(tmp_path: Path) -> None:
    parts = official_parts()
    del parts["model"][next(name for name in parts["model"] if "fuser" in name)]
    torch.save(parts, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match=r"cut\.pth"):
        bring_in(tmp_path / "weights", "--base", str(one_file(tmp_path)), "--instance", str(tmp_path / "cut.pth"))
    assert not [path for path in (tmp_path / "weights").rglob("*") if path.is_file()]


def test_a_folder_of_diffusers_is_a_base_too_unless_it_holds_instance_layers(tmp_path: Path) -> None:
    ours(tmp_path / "sd")
    base().save_pretrained(tmp_path / "sd" / "unet")
    bring_in(tmp_path / "weights", "--base", str(tmp_path / "sd"))
    assert (tmp_path / "weights" / "unet" / "recipe.json").is_file()
    with pytest.raises(ValueError, match="has instance layers"):
        bring_in(tmp_path / "other", "--base", str(port(tmp_path / "port")))


def in_open_clip(model: CLIPModel) -> dict[str, Tensor]:
    """The weights as OpenCLIP names and shapes them, written down once more by hand."""
    own, weights = model.state_dict(), {}
    for tower, theirs in (("vision_model", "visual."), ("text_model", "")):
        for number in range(2):
            block, here = f"{theirs}transformer.resblocks.{number}.", f"{tower}.encoder.layers.{number}."
            for kind in ("weight", "bias"):
                weights[f"{block}attn.in_proj_{kind}"] = torch.cat(
                    [own[f"{here}self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
                )
                weights[f"{block}attn.out_proj.{kind}"] = own[f"{here}self_attn.out_proj.{kind}"]
                weights[f"{block}mlp.c_fc.{kind}"] = own[f"{here}mlp.fc1.{kind}"]
                weights[f"{block}mlp.c_proj.{kind}"] = own[f"{here}mlp.fc2.{kind}"]
                weights[f"{block}ln_1.{kind}"] = own[f"{here}layer_norm1.{kind}"]
                weights[f"{block}ln_2.{kind}"] = own[f"{here}layer_norm2.{kind}"]
    for kind in ("weight", "bias"):
        weights[f"visual.ln_pre.{kind}"] = own[f"vision_model.pre_layrnorm.{kind}"]
        weights[f"visual.ln_post.{kind}"] = own[f"vision_model.post_layernorm.{kind}"]
        weights[f"ln_final.{kind}"] = own[f"text_model.final_layer_norm.{kind}"]
    weights["visual.class_embedding"] = own["vision_model.embeddings.class_embedding"]
    weights["visual.conv1.weight"] = own["vision_model.embeddings.patch_embedding.weight"]
    weights["visual.positional_embedding"] = own["vision_model.embeddings.position_embedding.weight"]
    weights["visual.proj"] = own["visual_projection.weight"].T
    weights["token_embedding.weight"] = own["text_model.embeddings.token_embedding.weight"]
    weights["positional_embedding"] = own["text_model.embeddings.position_embedding.weight"]
    weights["text_projection"] = own["text_projection.weight"].T
    weights["logit_scale"] = own["logit_scale"]
    return weights


def test_a_judge_of_openclip_and_the_same_of_transformers_see_alike(tmp_path: Path) -> None:
    weights = in_open_clip(clip_of(tmp_path / "hf"))
    torch.save(weights, tmp_path / "open_clip.bin")
    bring_in(tmp_path / "one", "--judge", str(tmp_path / "hf"))
    bring_in(tmp_path / "other", "--judge", str(tmp_path / "open_clip.bin"))
    from_transformers, from_open_clip = (clip.load(tmp_path / name / "clip" / "judge") for name in ("one", "other"))
    square = [np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)]
    assert torch.equal(from_transformers.image_features(square), from_open_clip.image_features(square))
    assert torch.equal(from_transformers.text_features(["a red star"]), from_open_clip.text_features(["a red star"]))
    assert (from_transformers.prepared.middle, from_open_clip.prepared.middle) == (False, True)
    del weights["visual.ln_pre.bias"]
    torch.save(weights, tmp_path / "open_clip.bin")
    with pytest.raises(ValueError, match=r"lacks \['vision_model\.pre_layrnorm\.bias'\]"):
        bring_in(tmp_path / "none", "--judge", str(tmp_path / "open_clip.bin"))
    assert not (tmp_path / "none" / "clip" / "judge").exists()


def test_pictures_are_prepared_as_the_judges_folder_says(tmp_path: Path) -> None:
    settings = {"image_mean": [0.2, 0.4, 0.6], "image_std": [0.5, 0.25, 0.1], "do_center_crop": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = 255  # the middle
    pixels = clip.preparation(tmp_path / "preprocessor_config.json")([wide], 4)
    assert pixels[0, :, 1, 1].tolist() == pytest.approx([1.6, 2.4, 4.0])
    assert pixels.std((2, 3)).max() < 1e-6
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ValueError, match="not an image processor's settings"):
        clip.preparation(tmp_path / "preprocessor_config.json")


def test_a_yolo_file_becomes_a_detector_that_finds_the_same(tmp_path: Path) -> None:
    bring_in(tmp_path / "weights", "--detector", str(SHIPPED / "detector" / "detector.pt"))
    original, converted = detector.load(SHIPPED / "detector"), detector.load(tmp_path / "weights" / "detector")
    assert original.classes == converted.classes
    assert (converted.image_size, converted.min_score, converted.nms_iou) == (640, 0.001, 0.7)
    theirs, ours = original.model.model.state_dict(), converted.model.model.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())


def test_a_malicious_detector_is_refused_and_not_executed(tmp_path: Path) -> None:
    torch.save({"model": Malicious(f"touch {tmp_path / 'executed'}")}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil\.pt: refused"):
        bring_in(tmp_path / "weights", "--detector", str(tmp_path / "evil.pt"))
    assert not (tmp_path / "executed").exists()


def test_what_is_not_there_is_named_in_one_sentence_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main(["import-weights", "--out", str(tmp_path / "out"), "--base", "a.ckpt", "--detector", "b.pt"])
    assert "not there: --base a.ckpt, --detector b.pt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["v1-5-pruned-emaonly.safetensors", "pt_inception-2015-12-05-6726825d.pth"])
def test_another_file_under_a_published_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(ValueError, match="is not the file published under this name"):
        provenance.checked(tmp_path)
