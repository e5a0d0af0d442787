"""Laws of `instdiff generate`: pictures and their record, or one sentence and nothing."""

import copy
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from layout_cases import RLE, STRUCTURES
from PIL import Image
from tiny_pipeline import shared

from instdiff import __main__ as command
from instdiff.app import generate, generate_options, lora
from instdiff.checkpoints import reading
from instdiff.layouts import files as layout_files
from instdiff.layouts import masks
from instdiff.layouts.overlay import overlay, start
from instdiff.model.conditions import FORMATS
from instdiff.model.drawing import AS_RELEASED
from instdiff.networks import device
from instdiff.randomness import torch_generator
from instdiff.sampling.memory import Size
from instdiff.schema import Box, Instance, Layout, Point

OURS = [
    {
        "key": "one",
        "prompt": "a red ring",
        "instances": [
            {"phrase": "a red ring", "box": [0.1, 0.1, 0.5, 0.6], "point": [0.3, 0.3], "mask": RLE},
            {"phrase": "a blue disc", "polyline": [[0.1, 0.1], [0.4, 0.8]], "category": "disc"},
        ],
    },
    {"prompt": "nothing here", "instances": []},
]
NASTY = [
    None, True, False, 0, -1, 1e308, -1e308, float("nan"), float("inf"), 10**400, "", "x", "\ud800", "\x00", "../x", [],
    {}, [[]], [None], [0], [1, 2, 3, 4], "9" * 50, {"size": [10**9, 10**9], "counts": "0"}, {"counts": "`" * 40}, RLE,
    [[0.1, 0.2]] * 3, "a" * 3000,
]  # fmt: skip


@pytest.fixture(autouse=True)
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(device._COUNTS, "cuda", lambda: 4)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny pipeline in place of one read from disk."""
    monkeypatch.setattr(generate, "loaded", lambda options: shared(options.solver))


def run(folder: Path, record: object, *options: str) -> None:
    path = folder / "scene.json"
    path.write_text(json.dumps(record))
    weights = folder / "weights.bin"
    weights.write_bytes(b"some")
    command.main(["generate", str(path), "--ckpt", str(weights), "--output", str(folder / "out"), *options])


def folder_of(root: Path) -> Path:
    (folder,) = (root / "out" / "scene").iterdir()
    return folder


@pytest.mark.usefixtures("tiny")
def test_pictures_come_with_the_layout_over_them_and_a_record(tmp_path: Path) -> None:
    run(tmp_path, OURS, "--steps", "2", "--num-images", "2", "--seed", "3")
    out = folder_of(tmp_path)
    assert out.name == "gc7.5-seed3-alpha0.75"
    record = json.loads((out / "provenance.json").read_text())
    keys = ["one-0", "one-1", "scene-1-0", "scene-1-1"]
    assert [picture["file"] for picture in record["pictures"]] == [f"{key}.png" for key in keys]
    expected = sorted([*(f"{key}.png" for key in keys), *(f"{key}-layout.png" for key in keys), "provenance.json"])
    assert sorted(path.name for path in out.iterdir()) == expected
    assert record["layouts"][0]["instances"][1]["phrase"] == "a blue disc"
    assert record["options"]["seed"] == 3
    assert record["device"] == "cpu"
    assert record["weights"]["ckpt"]["sha256"].startswith("a6b46dd0d1ae5e86")  # of the bytes "some"
    assert {"torch", "diffusers", "transformers", "instdiff"} <= record["libraries"].keys()


@pytest.mark.usefixtures("tiny")
def test_a_run_repeats_what_validate_remarks_and_names_the_words_that_are_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    room = shared().text_encoder.config.max_position_embeddings - 2
    instances = [{"phrase": "a", "box": [0, 0, 10, 10]}, {"phrase": "b", "box": [0.1, 0.1, 0.5, 0.5]}]
    run(tmp_path, {"prompt": "a " * room + "c c", "instances": instances}, "--steps", "1", "--width", "64")
    remarks = [line for line in capsys.readouterr().out.splitlines() if line.startswith("remark  ")]
    assert remarks[0].endswith("steps 1 as given by hand; these layers are best drawn with steps 50")
    assert "instances.0.box: (0, 0, 10, 10) is cut at the picture's border: are these percent" in remarks[1]
    assert remarks[2].endswith(f"has {room + 2} tokens, and the text encoder reads {room}: lost is 'c c'")
    assert len(remarks) == 3


@pytest.mark.usefixtures("tiny")
def test_a_run_starts_from_a_phones_picture_as_it_was_held(tmp_path: Path) -> None:
    upright = np.zeros((32, 32, 3), np.uint8)
    upright[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(upright).save(tmp_path / "upright.png")
    Image.fromarray(np.rot90(upright)).save(tmp_path / "phone.png", exif=exif)
    pictures = []
    for name in ("upright.png", "phone.png"):
        run(tmp_path, OURS[0], "--steps", "4", "--image", str(tmp_path / name), "--strength", "0.5")
        pictures.append((folder_of(tmp_path) / "one-0.png").read_bytes())
    assert pictures[0] == pictures[1]


@pytest.mark.usefixtures("tiny")
def test_a_run_again_gives_the_same_pictures_and_the_record_gives_them_back(tmp_path: Path) -> None:
    run(tmp_path, OURS, "--steps", "2")
    first = json.loads((folder_of(tmp_path) / "provenance.json").read_text())
    run(tmp_path, first["layouts"], "--steps", "2")
    assert json.loads((folder_of(tmp_path) / "provenance.json").read_text())["pictures"] == first["pictures"]


@pytest.mark.usefixtures("tiny")
def test_the_noise_is_that_of_the_released_script(tmp_path: Path) -> None:
    run(tmp_path, OURS[0], "--steps", "2", "--num_images", "2", "--seed", "5")
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    (layout,) = layout_files.read(tmp_path / "scene.json")
    expected = shared()(layout, num_inference_steps=2, num_images_per_prompt=2, latents=noise).images
    for number, image in enumerate(expected):
        assert np.array_equal(Image.open(folder_of(tmp_path) / f"one-{number}.png"), image)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--alpha", "2"], "--alpha: 2.0 does not lie between 0 and 1"),
        (["--guidance-scale", "nan"], "'nan' is no finite number"),
        (["--strength", "0"], "0 must lie above 0"),
        (["--steps", "0"], "--steps: 0 does not lie between 1 and 1000"),
        (["--num_images", "1.5"], "'1.5' is no whole number"),
        (["--max_rows", "-1"], "-1 is less than 1"),
        (["--seed", "-1"], "--seed: -1 does not lie between 0 and"),
        (["--device", "cuda:99"], "torch sees no device 'cuda:99' on this machine: take cpu"),
        (["--device", "tpu"], "'tpu' names no device: take cpu"),
        (["--device", "cpu", "--offload"], "--device is cpu"),
        (["--test_config", "configs/test_depth.yaml"], "there are box, point, scribble, mask"),
        (["--image", "no.png"], "no.png: not a readable picture (no such file)"),
    ],
)
def test_a_wrong_option_is_one_sentence_before_anything_is_loaded(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    says: str,
) -> None:
    monkeypatch.setattr(generate, "assembled", None)
    with pytest.raises(SystemExit):
        run(tmp_path, OURS, "--steps", "2", *options)
    message = capsys.readouterr().err
    assert says in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("tiny")
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "out" / "scene" / "gc7.5-seed0-alpha0.75" / "diary.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("dear diary")
    with pytest.raises(SystemExit):
        run(tmp_path, OURS, "--steps", "2")
    assert "is no earlier run" in capsys.readouterr().err
    assert mine.read_text() == "dear diary"


PASSED_ON: dict[str, tuple[list[str], object]] = {  # argument of the pipeline -> options, and what it must be then
    "num_images_per_prompt": (["--num_images", "3"], 3),
    "guidance_scale": (["--guidance_scale", "3.5"], 3.5),
    "negative_prompt": (["--negative_prompt", "blurry"], "blurry"),
    "alpha": (["--alpha", "0.6"], 0.6),
    "mis": (["--mis", "0.2"], 0.2),
    "merge": (["--merge", "regions"], "regions"),
    "cascade_strength": (["--cascade_strength", "0.1"], 0.1),
    "formats": (["--formats", "box", "mask"], ("box", "mask")),
    "num_inference_steps": (["--steps", "7"], 7),
    "height": (["--height", "24"], 24),
    "width": (["--width", "40"], 40),
    "strength": (["--strength", "0.3"], 0.3),
    "masked_attention": (["--masked_attention"], True),
    "compat": (["--compat", "reference"], "reference"),
    "max_rows": (["--max_rows", "5"], 5),
    "guidance_interval": (["--guidance_interval", "0.2", "0.8"], [0.2, 0.8]),
    "reuse": (["--reuse", "3"], 3),
}


class Recorder:
    """A pipeline that draws nothing and remembers what it was asked, and how it was got ready."""

    device = torch.device("cpu")
    tokenizer = SimpleNamespace(tokenize=str.split)
    text_encoder = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=77))

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.done: list[tuple[object, ...]] = []
        self.lora_fits: dict[str, object] = {}
        self.unet = SimpleNamespace(
            compile=lambda **how: self.done.append(("compile", how)),
            compile_repeated_blocks=lambda **how: self.done.append(("compile blocks", how)),
            to=lambda **how: self.done.append(("unet to", how)),
        )

    def __call__(self, layout: Layout, **options: Any) -> SimpleNamespace:
        self.given = {"layout": layout, **options}
        return SimpleNamespace(images=[Image.new("RGB", (8, 8))])

    def __getattr__(self, name: str) -> Any:
        return lambda *values, **how: self.done.append((name, *values, *how.values()))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    stand_in = Recorder()
    for module in (device, generate):
        monkeypatch.setattr(module, "resolve", lambda name: torch.device("cpu" if name == "auto" else name))
    monkeypatch.setattr(generate, "assembled", lambda ckpt, **how: stand_in.done.append((ckpt, how)) or stand_in)
    monkeypatch.setattr(lora, "add", lambda _, file, name: stand_in.done.append(("lora", file, name)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return stand_in


def test_each_option_reaches_the_pipeline_with_its_value_and_moves_no_other(tmp_path: Path, recorder: Recorder) -> None:
    run(tmp_path, OURS[0])
    usual = recorder.given
    assert usual.keys() == PASSED_ON.keys() | {"layout", "generator", "image", "refiner", "step_noise", "after_step"}
    for name, (options, value) in PASSED_ON.items():
        for words in (options, [options[0].replace("_", "-"), *options[1:]]):
            run(tmp_path, OURS[0], *words)
            assert recorder.given[name] == value != usual[name], words
            same = (PASSED_ON.keys() | {"image", "refiner"}) - {name}
            assert {key: recorder.given[key] for key in same} == {key: usual[key] for key in same}, words


def test_what_is_not_said_is_what_the_released_script_takes(tmp_path: Path, recorder: Recorder) -> None:
    run(tmp_path, OURS[0])
    expected = {"guidance_scale": 7.5, "num_inference_steps": 50, "alpha": 0.75, "mis": 0.36, "cascade_strength": 0.35}
    assert {name: recorder.given[name] for name in expected} == expected
    assert recorder.given["negative_prompt"].startswith("longbody, lowres, bad anatomy")
    assert [recorder.given[name] for name in ("merge", "compat", "masked_attention")] == ["mean", None, False]
    assert (recorder.given["num_images_per_prompt"], recorder.given["max_rows"]) == (1, 2)
    assert all(recorder.given[name] is None for name in ("height", "width", "image", "refiner"))
    assert recorder.given["formats"] == FORMATS
    assert [recorder.given[name] for name in ("strength", "guidance_interval", "reuse")] == [0.8, (0.0, 1.0), 1]
    assert recorder.given["step_noise"] is recorder.given["after_step"] is None
    run(tmp_path, OURS[0], "--device", "cuda")
    assert recorder.given["max_rows"] == 16
    assert generate_options.parser().parse_args(["--ckpt", "w"]).output == Path("OUTPUT")


def test_the_noise_of_a_few_step_solver_is_by_the_seed_the_layout_and_the_step(
    tmp_path: Path, recorder: Recorder
) -> None:
    recorder.latent_shape = lambda height, width: (4, height // 8, width // 8)  # type: ignore[attr-defined]
    few = ["--solver", "lcm", "--steps", "4", "--height", "16", "--width", "24", "--num-images", "2"]
    for seed, record in ((0, OURS[0]), (5, OURS[0]), (5, OURS[1])):
        run(tmp_path, record, *few, "--seed", str(seed))
        for step in (0, 3):
            expected = torch.randn(
                2, 4, 2, 3, generator=torch_generator(seed, "noise", record.get("key", "scene"), step)
            )
            assert torch.equal(recorder.given["step_noise"](step), expected)


def test_a_layout_is_held_to_the_shape_that_is_drawn_and_to_the_slots_that_the_layers_state(
    tmp_path: Path, recorder: Recorder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = STRUCTURES["wide picture"]  # 768 x 512
    for options, shown in (
        (["--width", "24", "--height", "16"], None),
        (["--height", "16"], "512x16"),
        ([], "512x512"),
    ):
        run(tmp_path, wide, *options)
        remarks = [line for line in capsys.readouterr().out.splitlines() if "width, height: " in line]
        assert [line.partition("drawn as ")[2].partition(":")[0] for line in remarks] == [shown] * (shown is not None)
    monkeypatch.setattr(generate.assemble, "stated", lambda ckpt, instance: reading.Stated(AS_RELEASED, 16))
    recorder.given = {}
    with pytest.raises(SystemExit):
        run(tmp_path, wide)
    assert "annos: there are 17, but the model has slots for 16" in capsys.readouterr().err
    assert recorder.given == {}


@pytest.mark.usefixtures("recorder")
@pytest.mark.parametrize(
    ("options", "size", "bytes_per_number"),
    [
        (["--device", "cpu"], Size(64, 64, 2, 3, False), 4),
        (["--height", "16", "--max_rows", "99"], Size(16, 64, 6, 3, False), 4),
        (["--width", "16", "--num_images", "2", "--max_rows", "9"], Size(64, 16, 9, 6, False), 4),
        (["--mis", "0", "--num_images", "2", "--guidance_scale", "1"], Size(64, 64, 2, 2, False), 4),
        (["--masked_attention", "--dtype", "float16"], Size(64, 64, 6, 3, True), 2),
    ],
)
def test_what_the_largest_layout_needs_is_held_to_what_is_free_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], size: Size, bytes_per_number: int
) -> None:
    asked: list[tuple[object, ...]] = []
    unet, vae = {"sample_size": 16}, {"block_out_channels": [1, 1, 1]}
    monkeypatch.setattr(generate.reading, "base_sizes", lambda _: SimpleNamespace(unet=unet, vae=vae))
    monkeypatch.setattr(generate.memory, "refuse_too_large", lambda *of: asked.append(of))
    loaded = generate.loaded
    monkeypatch.setattr(generate, "loaded", lambda how: asked.append(("read",)) or loaded(how))
    run(tmp_path, [OURS[1], OURS[0]], *options)
    assert asked == [(unet, vae, size, torch.device("cpu"), bytes_per_number), ("read",)]


@pytest.mark.parametrize(
    ("option", "taken", "refused"),
    [
        ("steps", ["1", "1000"], ["1001"]),
        ("guidance_scale", ["0"], ["-0.1"]),
        ("strength", ["1", "0.001"], ["1.001"]),
        *((name, ["0", "1"], ["-0.001", "1.001"]) for name in ("alpha", "mis", "cascade_strength")),
        *((name, ["1"], ["0"]) for name in ("num_images", "height", "width", "reuse", "max_rows")),
        ("seed", ["0", str(2**63 - 1)], [str(2**63)]),
    ],
)
def test_a_number_is_taken_up_to_its_ends_and_not_beyond(option: str, taken: list[str], refused: list[str]) -> None:
    parser = generate_options.parser()
    for value in taken:
        assert getattr(parser.parse_args(["--ckpt", "w", f"--{option}", value]), option) == (
            int(value) if value.isdigit() else float(value)
        )
    for value in refused:
        with pytest.raises(SystemExit):
            parser.parse_args(["--ckpt", "w", f"--{option}={value}"])


def test_the_seed_the_layout_and_the_picture_to_start_from_reach_the_pipeline(
    tmp_path: Path, recorder: Recorder
) -> None:
    Image.new("RGBA", (6, 4), "red").save(tmp_path / "begun.png")
    for seed in (0, 9):
        run(tmp_path, OURS[0], "--seed", str(seed), "--image", str(tmp_path / "begun.png"))
        assert recorder.given["generator"].initial_seed() == seed
        assert (recorder.given["image"].mode, recorder.given["image"].size) == ("RGB", (6, 4))
        assert recorder.given["layout"] == layout_files.read(tmp_path / "scene.json")[0]


def test_the_refiner_is_that_of_the_folder_in_the_precision_and_on_the_device_asked_for(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: list[object] = []

    def read(folder: Path, **how: object) -> SimpleNamespace:
        arguments.extend([folder, how])
        return SimpleNamespace(to=lambda device: f"refiner on {device}")

    monkeypatch.setattr(StableDiffusionXLImg2ImgPipeline, "from_pretrained", read)
    (tmp_path / "refiner").mkdir()
    (tmp_path / "refiner" / "model_index.json").write_text("{}")  # an empty folder has no digest
    run(tmp_path, OURS[0], "--refiner", str(tmp_path / "refiner"), "--dtype", "bfloat16", "--device", "cuda:1")
    assert recorder.given["refiner"] == "refiner on cuda:1"
    assert arguments == [tmp_path / "refiner", {"torch_dtype": torch.bfloat16, "local_files_only": True}]


USUAL = {"instance": None, "tokenizer": None, "solver": "plms", "dtype": torch.float32}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [(Path("w"), USUAL), ("to", torch.device("cpu"))]),
        (["--instance", "i"], [(Path("w"), USUAL | {"instance": Path("i")}), ("to", torch.device("cpu"))]),
        (["--tokenizer", "t"], [(Path("w"), USUAL | {"tokenizer": Path("t")}), ("to", torch.device("cpu"))]),
        (["--solver", "unipc"], [(Path("w"), USUAL | {"solver": "unipc"}), ("to", torch.device("cpu"))]),
        (["--dtype", "float16"], [(Path("w"), USUAL | {"dtype": torch.float16}), ("to", torch.device("cpu"))]),
        (["--device", "cuda:2"], [(Path("w"), USUAL), ("to", torch.device("cuda:2"))]),
        (["--offload"], [(Path("w"), USUAL), ("enable_model_cpu_offload",)]),
        (
            ["--compile", "--device", "cuda"],
            [
                (Path("w"), USUAL),
                ("to", torch.device("cuda")),
                ("compile blocks", {"dynamic": False}),
            ],
        ),
        (
            ["--compile", "whole"],
            [
                (Path("w"), USUAL),
                ("to", torch.device("cpu")),
                ("compile", {"dynamic": False, "options": {"freezing": True}}),
            ],
        ),
        (
            ["--channels-last"],
            [
                (Path("w"), USUAL),
                ("to", torch.device("cpu")),
                ("unet to", {"memory_format": torch.channels_last}),
            ],
        ),
        (
            ["--lora", "a/1.safetensors", "b/2.safetensors"],
            [
                (Path("w"), USUAL),
                ("lora", Path("a/1.safetensors"), "lora0"),
                ("lora", Path("b/2.safetensors"), "lora1"),
                ("to", torch.device("cpu")),
            ],
        ),
    ],
)
def test_the_pipeline_is_got_ready_as_the_options_say(
    recorder: Recorder, options: list[str], expected: list[object]
) -> None:
    generate.loaded(
        generate_options.settled(generate_options.parser().parse_args(["--ckpt", "w", *options]), AS_RELEASED)[0]
    )
    assert recorder.done == expected
    assert recorder.padded == ("--compile" in options)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        (["--device", "cuda:1"], {"name": "cuda:1"}),
        (["--dtype", "bfloat16"], {"precision": "bfloat16"}),
        (["--tf32"], {"tf32": True}),
        (["--compile", "whole"], {"compile": "whole"}),
        (["--channels_last"], {"channels_last": True}),
    ],
)
def test_the_place_is_what_the_options_say_and_its_device_is_that_of_the_run(
    recorder: Recorder, options: list[str], value: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[dict[str, Any]] = []

    def place(**how: Any) -> SimpleNamespace:
        places.append(how)
        settled = SimpleNamespace(**how | {"name": "settled", "dtype": torch.float32, "device": "there"})
        return SimpleNamespace(settled=lambda: settled)

    monkeypatch.setattr(generate, "Place", place)
    monkeypatch.setattr(generate, "compile_network", lambda *_: None)
    plain = {"name": "auto", "precision": "float32", "tf32": False, "compile": "no", "channels_last": False}
    wanted = generate_options.parser().parse_args(["--ckpt", "w", *options])
    settled, _ = generate_options.settled(wanted, AS_RELEASED)
    generate.loaded(settled)
    assert places == [plain | value]
    assert settled.device == "settled"
    assert ("to", "there") in recorder.done


def test_no_option_is_left_without_a_law() -> None:
    """A new option takes its place in the tables above."""
    elsewhere = {"layout", "input_json", "ckpt", "output", "test_config", "refiner", "image", "seed"}
    ready = {
        "instance",
        "tokenizer",
        "solver",
        "dtype",
        "device",
        "offload",
        "compile",
        "lora",
        "channels_last",
        "tf32",
    }
    passed_on = {options[0].removeprefix("--") for options, _ in PASSED_ON.values()}
    options = vars(generate_options.parser().parse_args(["--ckpt", "x"])).keys()
    assert options == elsewhere | ready | passed_on


@pytest.mark.usefixtures("recorder")
def test_runs_that_differ_in_guidance_seed_or_alpha_have_folders_of_their_own(tmp_path: Path) -> None:
    for options in ([], ["--seed", "1"], ["--alpha", "0.5"], ["--guidance-scale", "5"]):
        run(tmp_path, OURS[0], *options)
    names = {folder.name for folder in (tmp_path / "out" / "scene").iterdir()}
    assert names == {"gc7.5-seed0-alpha0.75", "gc7.5-seed1-alpha0.75", "gc7.5-seed0-alpha0.5", "gc5.0-seed0-alpha0.75"}


@pytest.mark.usefixtures("recorder")
def test_the_record_holds_every_option_and_the_digest_of_every_file_that_the_pictures_depend_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "_refiner", lambda _: None)
    Image.new("RGB", (6, 4)).save(tmp_path / "begun.png")
    files = {}
    for name in ("instance", "refiner", "lora0", "lora1"):
        files[name] = tmp_path / name
        files[name].write_text(name)
    options = ["--instance", str(files["instance"]), "--refiner", str(files["refiner"]), "--merge", "regions"]
    begun = ["--image", str(tmp_path / "begun.png")]
    run(tmp_path, OURS[0], *options, *begun, "--lora", str(files["lora0"]), str(files["lora1"]))
    record = json.loads((folder_of(tmp_path) / "provenance.json").read_text())
    expected = {
        name: {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for name, path in {**files, "ckpt": tmp_path / "weights.bin"}.items()
    }
    assert record["weights"] == expected
    picture = tmp_path / "begun.png"
    assert record["image"] == {"path": str(picture), "sha256": hashlib.sha256(picture.read_bytes()).hexdigest()}
    assert record["options"].keys() == vars(generate_options.parser().parse_args(["--ckpt", "x"])).keys()
    assert record["options"]["merge"] == "regions"


@pytest.mark.usefixtures("recorder")
def test_compat_reaches_the_reading_of_the_layout_and_either_name_names_it(tmp_path: Path, recorder: Recorder) -> None:
    anno = {"caption": "a", "bbox": [], "point": [4, 4], "mask": [], "scribble": []}
    released = {"caption": "s", "width": 8, "height": 16, "annos": [anno]}
    run(tmp_path, released)
    assert recorder.given["layout"].instances[0].box is None
    run(tmp_path, released, "--compat", "reference")
    assert recorder.given["layout"].instances[0].box == Box(0, 0, 0, 0)
    weights = ["--ckpt", str(tmp_path / "weights.bin"), "--output", str(tmp_path / "named")]
    command.main(["generate", "--input_json", str(tmp_path / "scene.json"), *weights])
    assert recorder.given["layout"].instances[0].point == Point(0.5, 0.25)
    with pytest.raises(SystemExit):
        command.main(["generate", *weights])


def test_formats_are_those_of_the_released_configurations() -> None:
    def of(*options: str) -> set[str]:
        return set(generate_options.formats(generate_options.parser().parse_args(["--ckpt", "x", *options])))

    assert of("--test_config", "configs/test_box.yaml") == {"box", "point"}
    assert of("--test_config", "point") == {"point"}
    assert of("--test_config", "test_scribble.yaml") == set(FORMATS)
    assert of("--test_config", "mask") == {"box", "point", "outline", "mask"}
    assert of("--formats", "mask", "--test_config", "point") == {"mask"}
    assert of("--formats") == set()
    assert of() == {"box", "point", "scribble", "outline", "mask"}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or index) of a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in list(inside):
        yield value, key
        yield from places(held)


def mutated(record: Any, draw: random.Random) -> str:
    """The record as text, changed in one or two places."""
    record = copy.deepcopy(record)
    for _ in range(draw.randint(1, 2)):
        candidates = [place for place in places(record) if place]
        if not candidates:
            break
        container, key = draw.choice(candidates)
        change = draw.randrange(6)
        if change == 0:
            del container[key]
        elif change == 1 and isinstance(container, list):
            container.extend([container[key]] * draw.choice([1, 40]))
        elif change == 2 and isinstance(container, dict):
            container[draw.choice(["phrase", "box", "annos", "mask", "extra", "width"])] = container.pop(key)
        elif change == 3 and isinstance(container[key], float):
            container[key] = container[key] * draw.choice([-1, 0, 0.5, 1.01, 3, 1e6])
        else:
            container[key] = copy.deepcopy(draw.choice(NASTY))
    text = json.dumps(record)
    if draw.random() < 0.1:
        cut = draw.randrange(len(text))
        text = text[:cut] + draw.choice(["", "{", "]", '"', "\x00"]) + text[cut + draw.randrange(3) :]
    return text


@pytest.mark.usefixtures("tiny")
def test_a_thousand_mutated_layouts_give_pictures_or_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw, num_drawn, num_refused = random.Random(0), 0, 0
    originals = [*STRUCTURES.values(), OURS, OURS[0]]
    for _ in range(1000):
        text = mutated(draw.choice(originals), draw)
        (tmp_path / "scene.json").write_text(text)
        common = [
            str(tmp_path / "scene.json"),
            "--ckpt",
            __file__,
            "--output",
            str(tmp_path / "out"),
            "--guidance_scale",
            "1",
        ]
        try:
            command.main(["generate", *common, "--steps", "1", "--mis", "0"])
        except SystemExit as stopped:
            message = capsys.readouterr().err.encode("ascii", "backslashreplace").decode()
            assert stopped.code == 2, text
            assert message.startswith("instdiff generate: "), text
            assert message.count("\n") == 1, message
            assert "Traceback" not in message
            assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()], text
            num_refused += 1
            continue
        record = json.loads((folder_of(tmp_path) / "provenance.json").read_text())
        files = {path.name for path in folder_of(tmp_path).iterdir()}
        assert len(files) == 2 * len(record["layouts"]) + 1
        num_drawn += 1
        for path in folder_of(tmp_path).iterdir():
            path.unlink()
        folder_of(tmp_path).rmdir()
        capsys.readouterr()
    assert num_drawn > 80
    assert num_refused > 300


def test_the_overlay_shows_each_instance_where_it_is() -> None:
    layout = Layout(key="k", prompt="p", instances=(Instance(phrase="", box=Box(0.5, 0.5, 1.5, 1.5)),))
    shown = np.asarray(overlay(Image.new("RGB", (64, 64)), layout))
    assert shown[31:, 31:].any()
    assert not shown[:31].any()
    assert not shown[:, :31].any()


def test_phrases_stand_at_their_instances_and_none_over_another() -> None:
    square = np.zeros((64, 64), dtype=bool)
    square[16:48, 8:40] = True
    crowd = tuple(Instance(phrase=f"disc {n}", mask=masks.encode(square)) for n in range(4))
    assert all(start(instance) == Point(8 / 64, 16 / 64) for instance in crowd)
    plain = tuple(instance.model_copy(update={"phrase": ""}) for instance in crowd)
    paper = Image.new("RGB", (256, 256))
    inks = []
    for number in range(4):  # each phrase alone among the others' frames
        shown = (*crowd[: number + 1], *plain[number + 1 :])
        before = (*crowd[:number], *plain[number:])
        with_it, without = (
            overlay(paper, Layout(key="k", prompt="p", instances=instances)) for instances in (shown, before)
        )
        inks.append((np.asarray(with_it) != np.asarray(without)).any(axis=-1))
    assert all(ink.any() for ink in inks)
    assert np.sum(inks, axis=0).max() == 1


@pytest.mark.parametrize("size", [(96, 32), (32, 96)])
def test_the_overlay_of_a_picture_that_is_not_square_shows_places_as_fractions_of_its_sides(
    size: tuple[int, int],
) -> None:
    box = Instance(phrase="", box=Box(0.5, 0.25, 1.0, 0.75))
    shown = np.asarray(overlay(Image.new("RGB", size), Layout(key="k", prompt="p", instances=(box,)))).any(-1)
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    height, width = shown.shape
    assert width / height == size[0] / size[1]
    assert max(shown.shape) >= 512  # so that words fit
    edges = (columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)
    assert edges == pytest.approx((0.5, 0.25, 1.0, 0.75), abs=0.05)
