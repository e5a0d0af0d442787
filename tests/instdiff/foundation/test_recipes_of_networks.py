"""Each network of the foundation is trained by its own recipe: by what is left of it when nothing is learned."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from instdiff.config import compose, values
from instdiff.files import recipes
from instdiff.foundation import blip, clip, sam, unet, vae
from instdiff.networks import clip as networks_clip
from instdiff.world import corpus
from instdiff.world.arrangements import GROUPS

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "weights" / "miniature"
SCENES = 3
STAGES: dict[str, ModuleType] = {"blip": blip, "clip": clip, "sam": sam, "unet": unet, "vae": vae}


@dataclass
class Asked:
    """What a stage asks for on its way."""

    scenes: list[tuple[Any, ...]] = field(default_factory=list)
    digest: tuple[Any, ...] = ()
    learns: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    in_training: set[str] = field(default_factory=set)
    how: object = None
    places: dict[str, Any] = field(default_factory=dict)
    cleared: list[Path] = field(default_factory=list)


@cache
def sections() -> dict[str, Any]:
    few = [f"{stage}.num_scenes={SCENES}" for stage in STAGES] + [f"{stage}.workers=1" for stage in STAGES]
    words = ["clip=train", "vae=train", "unet=train", "clip.steps={text:3,judge:5}", *few]
    return dict(yaml.safe_load(compose.composed(words, ROOT / "configs")))


def made(name: str, folder: Path, tried: int = 0, **changes: Any) -> tuple[Asked, Any, dict[str, float]]:
    """A network that learned nothing, its loss `tried` times; what its stage asked for, params, and what it counts."""
    stage, _, role = name.partition("@")
    module, record = STAGES[stage], Asked()
    params = module.Params.model_validate(values.section(sections(), stage)).model_copy(update=changes)
    render = corpus.rendered

    def rendered(*how: Any) -> corpus.Corpus:
        record.scenes.append(how)
        return render(how[0], min(how[1], SCENES), *how[2:])

    def fit(model: nn.Module, loss: Callable[[int], Any], how: object, **places: Any) -> int:
        record.how, record.places = how, places
        record.in_training = {part for part, inner in model.named_children() if inner.training}
        for name, weight in model.named_parameters():
            (record.learns if weight.requires_grad else record.kept).append(name)
        assert all(loss(step).isfinite() for step in range(tried))
        return 0

    def digest(*inputs: Any) -> str:
        record.digest = inputs
        return "digest"

    paths = {"shipped": SHIPPED / stage, "text": SHIPPED / "clip/text", "vae": SHIPPED / "vae", stage: folder / name}
    wanted = {"unet": ("shipped", "text", "vae"), "vae": ("shipped",), "clip": ("shipped",)}.get(stage, ())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "rendered", rendered)
        patch.setattr(module, "fit", fit)
        patch.setattr(module.resume, "digest", digest)
        patch.setattr(module.resume, "clear", record.cleared.append)
        if stage in {"blip", "clip"}:
            patch.setattr(module, "accuracies", lambda *_: {"all_accuracy": 0.5})
        counts = module.run(**{key: paths[key] for key in (*wanted, stage)}, **({"role": role} if role else {}),
                            params=params)  # fmt: skip
    return record, params, counts


CHANGES: dict[str, dict[str, Any]] = {
    "sam": {},
    "blip": {},
    "clip@text": {},
    "clip@judge": {},
    "vae": {},
    "unet": {},
    "vae further": {"source": "continue"},
    "unet further": {"source": "continue"},
}
each_recipe = pytest.mark.parametrize("recipe", CHANGES)
Made = tuple[Asked, Any, dict[str, float], Path]


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    @cache
    def once(recipe: str) -> Made:
        folder, name = tmp_path_factory.mktemp("made"), recipe.removesuffix(" further")
        return *made(name, folder, **CHANGES[recipe]), folder / name

    return once


@each_recipe
def test_a_network_is_trained_as_long_as_its_recipe_says_where_it_says(
    recipe: str, every: Callable[[str], Made]
) -> None:
    record, params, _, folder = every(recipe)
    steps = {"clip@text": 3, "clip@judge": 5}.get(recipe, params.optimisation.steps)
    assert record.how == params.optimisation.model_copy(update={"steps": steps})
    assert record.places.keys() == {"scratch", "log", "engine"}
    assert record.places["engine"].where == params.device.settled()
    assert record.places["log"].name == "log.csv" and record.places["log"].parent.parent == folder.parent
    assert record.cleared == [record.places["scratch"]] and record.cleared[0].name == "digest"


@each_recipe
def test_a_half_done_training_belongs_to_its_recipe_and_to_what_it_began_with(
    recipe: str, every: Callable[[str], Made]
) -> None:
    record, params, _, _ = every(recipe)
    text, autoencoder, base = SHIPPED / "clip/text", SHIPPED / "vae", SHIPPED / "unet"
    inputs = {
        "clip@text": ["text"],
        "clip@judge": ["judge"],
        "vae further": [autoencoder],
        "unet": [text, autoencoder],
        "unet further": [text, autoencoder, base],
    }.get(recipe, [])
    stage = recipe.partition("@")[0].removesuffix(" further")
    assert record.digest == (f"instdiff.foundation.{stage}", params, *inputs)


@each_recipe
def test_a_network_is_trained_on_its_seeds_scenes_and_judged_on_others(
    recipe: str, every: Callable[[str], Made]
) -> None:
    record, params, _, _ = every(recipe)
    seed = params.seeds[recipe.partition("@")[2]] if recipe.startswith("clip") else params.seed
    groups = params.groups if recipe.startswith("unet") else GROUPS
    (first, *others) = record.scenes
    assert first == (seed, SCENES, groups, 1)
    assert [how[2:] for how in others] == ([] if recipe.startswith("unet") else [(GROUPS, 1)])
    assert all(how[0] != seed and how[1] >= 256 for how in others)


@each_recipe
def test_all_weights_of_a_network_learn_and_of_an_autoencoder_that_goes_on_those_of_its_decoder(
    recipe: str, every: Callable[[str], Made]
) -> None:
    record = every(recipe)[0]
    assert record.learns
    if recipe == "vae further":
        assert {name.partition(".")[0] for name in record.learns} == {"decoder", "post_quant_conv"}
        assert {name.partition(".")[0] for name in record.kept} == {"encoder", "quant_conv"}
        assert record.in_training == {"decoder", "post_quant_conv"}
    else:
        assert record.kept == []
        assert record.in_training


@each_recipe
def test_a_network_is_written_in_half_precision_with_its_recipe_and_what_it_went_on_from(
    recipe: str, every: Callable[[str], Made]
) -> None:
    _, params, counts, folder = every(recipe)
    (file,) = folder.glob("*.safetensors")
    assert {weight.dtype for weight in load_file(file).values()} - {torch.int64} == {torch.float16}
    recipe_written = recipes.read(folder)
    assert recipe_written["params"] == params.model_dump(mode="json") and recipe_written["metrics"] == counts
    before = recipes.read(SHIPPED / recipe.removesuffix(" further")) if "further" in recipe else None
    assert recipe_written.get("before") == before


def test_a_base_that_goes_on_begins_with_the_weights_it_had(every: Callable[[str], Made]) -> None:
    ours, shipped = (load_file(folder / "diffusion_pytorch_model.safetensors") for folder in
                      (every("unet further")[3], SHIPPED / "unet"))  # fmt: skip
    assert ours.keys() == shipped.keys()
    assert all(torch.equal(weight, shipped[name]) for name, weight in ours.items())


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_base_reads_the_words_of_its_scenes_but_in_the_share_that_goes_without(share: float, tmp_path: Path) -> None:
    read = list[torch.Tensor]()
    encoder = networks_clip.TextEncoder
    states = encoder.states
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "states", lambda own, ids_NL: (read.append(ids_NL), states(own, ids_NL))[1])
        record, params, _ = made("unet", tmp_path, tried=1, drop_caption=share)
    captions = corpus.rendered(params.seed, SCENES, params.groups, 1).captions
    expected = networks_clip.load_text(SHIPPED / "clip/text").ids([""] if share else captions)
    assert record.scenes[0][0] == params.seed
    assert len(read[0]) == params.batch_size
    assert {tuple(row) for row in read[0].tolist()} == {tuple(row) for row in expected.tolist()}
