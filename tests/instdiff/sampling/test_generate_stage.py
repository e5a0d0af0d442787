"""The pictures of a row: what its settings say reaches the pipeline, and noise belongs to a seed and a layout."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from data_world import WORK
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_pipeline import SIZES, base, shared

from instdiff.files import provenance, tables
from instdiff.layouts.columns import ANNOTATED, IMAGES
from instdiff.layouts.table_rows import TableRow
from instdiff.model.drawing import AS_RELEASED, Drawing
from instdiff.model.unet import LayersConfig
from instdiff.networks.device import PLAIN
from instdiff.sampling import generate
from instdiff.sampling.generate import Params
from instdiff.sampling.pipeline import InstanceDiffusionPipeline
from instdiff.schema import Instance, Layout
from instdiff.work import resume

PARAMS = Params(
    seed=3,
    rows={
        "real": TableRow(meaning="", pictures="real", formats=(), mis=0.0),
        "reconstructed": TableRow(meaning="", pictures="reconstructed", formats=(), mis=0.0),
        "box": TableRow(meaning="", pictures="drawn", formats=("box",), mis=0.0),
        "all": TableRow(meaning="", pictures="drawn", formats=("mask", "point"), mis=0.25),
    },
    solver="plms",
    steps=4,
    guidance=3.0,
    negative_prompt="",
    alpha=1.0,
    scale_u=True,
    merge="mean",
    masked_attention=False,
    compat=None,
    batch_size=2,
    batch_rows=9,
    max_rows=9,
    guidance_interval=(0.0, 1.0),
    reuse=1,
    device=PLAIN,
    work=WORK,
)
LAYOUTS = [Layout(key=key, prompt=f"a {key}", instances=()) for key in ("one", "two", "three")]
PASSED_ON: dict[str, tuple[str, object]] = {  # of Params or Row -> the pipeline's argument, and another value
    "steps": ("num_inference_steps", 7),
    "guidance": ("guidance_scale", 5.5),
    "guidance_interval": ("guidance_interval", (0.25, 0.75)),
    "reuse": ("reuse", 3),
    "negative_prompt": ("negative_prompt", "blurry"),
    "alpha": ("alpha", 0.5),
    "merge": ("merge", "regions"),
    "masked_attention": ("masked_attention", "finest"),
    "compat": ("compat", "reference"),
    "max_rows": ("max_rows", 5),
    "formats": ("formats", ("scribble",)),
    "mis": ("mis", 0.75),
}


def asked(batch: list[Layout], row: TableRow = PARAMS.rows["box"], params: Params = PARAMS) -> dict[str, Any]:
    """What the pipeline is asked for."""
    arguments: dict[str, Any] = {}

    class Recorder:
        unet = SimpleNamespace(config=SimpleNamespace(in_channels=4, sample_size=8))

        def __call__(self, layouts: list[Layout], **options: Any) -> SimpleNamespace:
            arguments.update(options, layouts=layouts)
            return SimpleNamespace(images=[Image.new("RGB", (16, 16))] * len(layouts))

    assert len(generate.draw(Recorder(), batch, row, params)) == len(batch)
    return arguments


def test_each_setting_reaches_the_pipeline_with_its_value_and_moves_no_other() -> None:
    row = PARAMS.rows["box"]
    usual = asked(LAYOUTS)
    assert usual.keys() == {name for name, _ in PASSED_ON.values()} | {"layouts", "latents", "step_noise"}
    for name, (argument, value) in PASSED_ON.items():
        of_row, of_all = ({name: value}, {}) if name in TableRow.model_fields else ({}, {name: value})
        arguments = asked(LAYOUTS, row.model_copy(update=of_row), PARAMS.model_copy(update=of_all))
        assert arguments[argument] == value != usual[argument], name
        same = usual.keys() - {argument, "latents"}
        assert {key: arguments[key] for key in same} == {key: usual[key] for key in same}, name
        assert torch.equal(arguments["latents"], usual["latents"]), name
    elsewhere = {
        "seed",
        "rows",
        "solver",
        "scale_u",
        "batch_size",
        "batch_rows",
        "device",
        "work",
        "meaning",
        "pictures",
        "command",
    }  # held below, and in test_by_command
    assert PASSED_ON.keys() | elsewhere == Params.model_fields.keys() | TableRow.model_fields.keys()


def test_what_is_null_is_as_the_layers_say_and_what_differs_is_remarked_on(capsys: pytest.CaptureFixture[str]) -> None:
    names = sorted(Drawing.model_fields.keys() & Params.model_fields.keys())
    unsaid = PARAMS.model_copy(update=dict.fromkeys(names))
    settled = generate.settled(unsaid, AS_RELEASED)
    assert {name: getattr(settled, name) for name in names} == AS_RELEASED.model_dump(include=set(names))
    assert capsys.readouterr().out == ""
    assert generate.settled(unsaid.model_copy(update={"steps": 7}), AS_RELEASED).steps == 7
    assert capsys.readouterr().out == "generate: steps 7 as given by hand; these layers are best drawn with steps 50\n"


@given(st.permutations(LAYOUTS), st.integers(1, 3))
def test_the_noise_of_a_step_belongs_to_the_seed_the_key_and_the_step(order: list[Layout], count: int) -> None:
    lcm = PARAMS.model_copy(update={"solver": "lcm"})
    noise = asked(LAYOUTS, params=lcm)["step_noise"]
    of_all = {step: dict(zip([layout.key for layout in LAYOUTS], noise(step), strict=True)) for step in (0, 1)}
    some = asked(order[:count], params=lcm)["step_noise"]
    for step in (0, 1):
        assert all(
            torch.equal(row, of_all[step][layout.key]) for layout, row in zip(order[:count], some(step), strict=True)
        )
    assert not torch.equal(noise(0), noise(1))
    assert asked(LAYOUTS)["step_noise"] is None


@given(st.permutations(LAYOUTS), st.integers(1, 3))
def test_noise_belongs_to_the_seed_and_the_key_in_any_batch_order_and_row(order: list[Layout], count: int) -> None:
    of_all = dict(zip([layout.key for layout in LAYOUTS], asked(LAYOUTS)["latents"], strict=True))
    for row in PARAMS.rows.values():
        for layout, noise in zip(order[:count], asked(order[:count], row)["latents"], strict=True):
            assert torch.equal(noise, of_all[layout.key])


def test_layouts_and_seeds_have_noise_of_their_own() -> None:
    noise = [
        tuple(latent.flatten().tolist())
        for seed in (3, 4)
        for latent in asked(LAYOUTS, params=PARAMS.model_copy(update={"seed": seed}))["latents"]
    ]
    assert len(set(noise)) == 6
    assert asked(LAYOUTS)["latents"].shape == (3, 4, 8, 8)


@given(st.integers(0, 5), st.integers(1, 4))
def test_of_more_instances_than_slots_the_first_are_drawn(count: int, slots: int) -> None:
    instances = tuple(Instance(phrase=str(number)) for number in range(count))
    first = generate.first(Layout(key="k", prompt="p", instances=instances), slots)
    assert first.instances == instances[:slots]
    assert (first.key, first.prompt) == ("k", "p")


@pytest.mark.parametrize("scale_u", [True, False])
@pytest.mark.parametrize(("solver", "kind"), [("plms", "PNDM"), ("dpm", "DPMSolver"), ("unipc", "UniPC")])
def test_the_pipeline_has_the_solver_asked_for_and_scaleu_where_it_takes_part(
    tmp_path: Path, solver: str, kind: str, scale_u: bool
) -> None:
    pipe = shared()
    for name, part in (("vae", pipe.vae), ("text", pipe.text_encoder), ("text", pipe.tokenizer)):
        part.save_pretrained(tmp_path / name)
    plain_weights(pipe, tmp_path / "unet")
    pipe.unet.save_instance_layers(tmp_path / "instance/layers")
    folders = {"text": tmp_path / "text", "vae_folder": tmp_path / "vae", "unet": tmp_path / "unet"}
    params = PARAMS.model_copy(update={"solver": solver, "scale_u": scale_u})
    loaded_pipe = generate.load(**folders, instance=tmp_path / "instance", params=params)
    assert type(loaded_pipe.scheduler).__name__.startswith(kind)
    scales = [weight for name, weight in loaded_pipe.unet.named_parameters() if ".scale_u." in name]
    assert scales
    assert any(bool(scale.any()) for scale in scales) is scale_u
    assert not any(weight.requires_grad for weight in loaded_pipe.unet.parameters())


@given(st.lists(st.integers(0, 7), max_size=20), st.integers(1, 5), st.integers(1, 9), st.booleans())
def test_a_batch_is_as_full_as_pictures_and_rows_allow_and_only_rows_drawn_apart_count(
    counts: list[int], batch_size: int, batch_rows: int, apart: bool
) -> None:
    params = PARAMS.model_copy(update={"batch_size": batch_size, "batch_rows": batch_rows})
    row = PARAMS.rows["all" if apart else "box"]
    layouts = [
        Layout(key=str(place), prompt="", instances=(Instance(phrase="it"),) * count)
        for place, count in enumerate(counts)
    ]
    cut = generate.batches(layouts, row, params)
    assert [layout for batch in cut for layout in batch] == layouts

    def rows(batch: list[Layout]) -> int:
        return sum(1 + apart * len(layout.instances) for layout in batch)

    for batch in cut:
        assert 0 < len(batch) <= batch_size
        assert rows(batch) <= batch_rows or len(batch) == 1
    for batch, after in pairwise(cut):
        assert len(batch) == batch_size or rows([*batch, after[0]]) > batch_rows


def plain_weights(pipe: InstanceDiffusionPipeline, folder: Path) -> None:
    """The base of the tiny network, by itself."""
    plain, own = base(), pipe.unet.state_dict()
    plain.load_state_dict({name: own[name] for name in plain.state_dict()})
    plain.save_pretrained(folder)


class Killed(Exception):
    pass


LOADED: list[str] = []  # rows that networks were loaded for


def drawn_rows(
    root: Path, monkeypatch: pytest.MonkeyPatch, row: str = "all", killed_in: int | None = None, **changes: Any
) -> tuple[list[tuple[list[str], TableRow]], dict[str, float]]:
    """Batches that the stage draws of five pictures, the last of which has three instances for two slots."""
    keys = ["e", "d", "c", "b", "a"]
    image = {"group": "mixed", "file": "f", "width": 4, "height": 2, "sha256": "0"}
    tables.write(root / "images.parquet", [{"key": key, "caption": key, **image} for key in keys], IMAGES)
    bare = dict.fromkeys(ANNOTATED.names) | {"key": "a", "caption": "it"}
    rows = pd.DataFrame([bare | {"index": index} for index in range(3)], dtype=object)
    tables.write(root / "annotated.parquet", rows.to_dict("records"), ANNOTATED)
    batches: list[tuple[list[str], TableRow]] = []

    def draw(_: object, batch: list[Layout], of: TableRow, params: Params) -> list[Image.Image]:
        if len(batches) == killed_in:
            raise Killed
        batches.append(([layout.key for layout in batch], of))
        assert all(len(layout.instances) <= 2 for layout in batch)
        return [Image.new("RGB", (4, 4), (ord(layout.key), params.seed, 0)) for layout in batch]

    stated = LayersConfig(unifusion_config=SIZES.model_copy(update={"max_instances": 2}), scale_u=True)
    monkeypatch.setattr(generate, "layers_config", lambda _: stated)

    def load(**_: object) -> SimpleNamespace:
        LOADED.append(row)
        return SimpleNamespace(device=torch.device("cpu"))

    monkeypatch.setattr(generate, "load", load)
    monkeypatch.setattr(generate, "draw", draw)
    monkeypatch.chdir(root)
    folders = {name: root / name for name in ("text", "vae", "unet", "instance")}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
        (folder / "weights").write_text(folder.name)
    paths = {
        "pictures": root / "real",
        "images": root / "images.parquet",
        "annotated": root / "annotated.parquet",
        "generated": root / "out",
    }
    counts: dict[str, float] = {}
    try:
        counts = dict(generate.run(**paths, **folders, row=row, params=PARAMS.model_copy(update=changes)))
    except Killed:
        assert not (root / "out").exists()
    return batches, counts


@pytest.mark.parametrize(("size", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (6, [5])])
def test_pictures_are_drawn_in_batches_of_the_size_and_by_the_row_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, sizes: list[int]
) -> None:
    batches, counts = drawn_rows(tmp_path, monkeypatch, batch_size=size)
    assert [len(keys) for keys, _ in batches] == sizes
    assert [key for keys, _ in batches for key in keys] == ["e", "d", "c", "b", "a"]
    assert all(row == PARAMS.rows["all"] for _, row in batches)
    assert counts == {"pictures": 5, "instances": 2, "instances_beyond_slots": 1}
    for key in "abcde":
        assert Image.open(tmp_path / f"out/{key}.png").getpixel((0, 0)) == (ord(key), 3, 0)
    assert not list(tmp_path.glob("runs/*"))
    record = provenance.read(tmp_path / "out")
    assert record is not None and record["devices"] == ["cpu"]  # "auto" says nothing of where it was


def test_a_process_loads_its_networks_once_for_all_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate.networks.cache_clear()
    LOADED.clear()
    batches, _ = drawn_rows(tmp_path, monkeypatch, batch_size=1)
    assert len(batches) == 5
    assert LOADED == ["all"]


def test_a_kill_costs_the_batch_in_flight_and_no_other_run_sees_what_was_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = drawn_rows(tmp_path, monkeypatch, killed_in=1)
    assert [keys for keys, _ in before] == [["e", "d"]]
    for other in ({"row": "box"}, {"seed": 4}, {"steps": 5}):
        anew, _ = drawn_rows(tmp_path, monkeypatch, killed_in=1, **other)
        assert [keys for keys, _ in anew] == [["e", "d"]], other
    after, _ = drawn_rows(tmp_path, monkeypatch)
    assert [keys for keys, _ in after] == [["c", "b"], ["a"]]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [f"{key}.png" for key in "abcde"]


def test_a_half_done_row_goes_on_after_another_row_was_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_rows(tmp_path, monkeypatch, killed_in=1)
    batches, _ = drawn_rows(tmp_path, monkeypatch, rows=PARAMS.rows | {"new": PARAMS.rows["box"]})
    assert [keys for keys, _ in batches] == [["c", "b"], ["a"]]


def test_a_half_done_row_is_drawn_anew_by_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_rows(tmp_path, monkeypatch, killed_in=1)
    monkeypatch.setattr(resume, "code", lambda stage: f"{stage} with another solver")
    batches, _ = drawn_rows(tmp_path, monkeypatch)
    assert [keys for keys, _ in batches] == [["e", "d"], ["c", "b"], ["a"]]


def test_the_row_of_real_pictures_holds_them_byte_for_byte(tmp_path: Path) -> None:
    names = ["a.png", "b.jpg"]
    images = [
        {"key": name[0], "group": "mixed", "file": name, "width": 4, "height": 2, "caption": "", "sha256": ""}
        for name in names
    ]
    tables.write(tmp_path / "images.parquet", images, IMAGES)
    (tmp_path / "real").mkdir()
    for name in [*names, "of-no-row.png"]:
        (tmp_path / "real" / name).write_bytes(name.encode())
    unread = dict.fromkeys(("annotated", "text", "vae", "unet", "instance"), tmp_path / "absent")
    paths = {"pictures": tmp_path / "real", "images": tmp_path / "images.parquet", "generated": tmp_path / "out"}
    assert generate.run(**paths, **unread, row="real", params=PARAMS) == {"pictures": 2}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        name: name.encode() for name in names
    }


def test_a_reconstructed_row_holds_each_real_picture_as_the_autoencoder_gives_it_back(tmp_path: Path) -> None:
    pipe = shared()
    pipe.vae.save_pretrained(tmp_path / "vae")
    pipe.unet.save_pretrained(tmp_path / "unet")
    rng = np.random.default_rng(0)
    (tmp_path / "real").mkdir()
    images = []
    for key, (height, width) in {"a": (16, 16), "b": (9, 31)}.items():
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(tmp_path / "real" / f"file {key}.png")
        common = {"group": "mixed", "caption": "", "sha256": "", "width": width, "height": height}
        images.append({"key": key, "file": f"file {key}.png", **common})
    tables.write(tmp_path / "images.parquet", images, IMAGES)
    folders = {"pictures": tmp_path / "real", "images": tmp_path / "images.parquet", "generated": tmp_path / "out"}
    weights = {"vae": tmp_path / "vae", "unet": tmp_path / "unet"}
    unread = dict.fromkeys(("annotated", "text", "instance"), tmp_path / "absent")
    assert generate.run(**folders, **weights, **unread, row="reconstructed", params=PARAMS) == {"pictures": 2}
    for key in "ab":
        real = Image.open(tmp_path / "real" / f"file {key}.png").resize((16, 16), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.asarray(real)[None]).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.no_grad():
            decoded = pipe.vae.decode(pipe.vae.encode(pixels).latent_dist.mean).sample
        levels = ((decoded.clamp(-1, 1) + 1) * 127.5).round()[0].permute(1, 2, 0).numpy()
        assert np.abs(np.asarray(Image.open(tmp_path / "out" / f"{key}.png")) - levels).max() <= 1
    record = provenance.read(tmp_path / "out")
    assert record is not None and record["row"] == "reconstructed" and set(record["weights"]) == {"vae"}
