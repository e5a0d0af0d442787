"""Laws of the page: what is drawn with the mouse is what is asked for, and nothing leaves the machine."""

import argparse
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Page as Tab
from playwright.sync_api import expect, sync_playwright
from tiny_pipeline import shared

from instdiff import __main__ as command
from instdiff.app import generate, page
from instdiff.layouts import masks
from instdiff.schema import Box, Instance, Layout, Point, Rle

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
PATIENCE = 180_000  # milliseconds
LAYOUT = {"prompt": "a red ring", "instances": [{"phrase": "a red ring", "box": [0.1, 0.1, 0.5, 0.6]}]}


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"some")
    given = ["--ckpt", str(weights), "--output", str(tmp_path / "out"), "--steps", "2"]
    return generate.parser().parse_args(given)


@pytest.fixture
def address(options: argparse.Namespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", page.LOOPBACK)
    with socket.socket() as free:
        free.bind((page.LOOPBACK, 0))
        port = free.getsockname()[1]
    made = page.Page(shared("dpm"), options).blocks()
    yield page.serve(made, port)
    made.close(verbose=False)


@pytest.fixture
def tab() -> Iterator[Tab]:
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1280, "height": 1000})
        opened.set_default_timeout(PATIENCE)
        yield opened
        browser.close()


def visit(tab: Tab, address: str) -> None:
    """Open the page and wait until all of it is there and the canvas takes strokes."""
    tab.goto(address)
    parts = [tab.get_by_role("heading"), tab.get_by_role("button", name="Draw", exact=True)]
    for part in [*parts, tab.locator("#written"), tab.locator("#pictures"), tab.locator("#canvas [data-ready] canvas")]:
        part.first.wait_for()
    tab.evaluate("document.fonts.ready.then(() => true)")


def draw(tab: Tab, kind: str, *places: tuple[float, float]) -> None:
    """Go from place to place with the button held."""
    tab.get_by_label(kind, exact=True).check()
    canvas = tab.locator("#canvas canvas")
    canvas.hover()  # waits until it stands still
    frame = canvas.bounding_box()
    assert frame is not None
    for number, (x, y) in enumerate(places):
        tab.mouse.move(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"], steps=4)
        if number == 0:
            tab.mouse.down()
    tab.mouse.up()


def near(*numbers: float) -> Any:
    return pytest.approx(numbers, abs=0.01)


def test_what_is_drawn_is_what_is_asked_for_and_nothing_leaves_the_machine(
    tab: Tab, address: str, tmp_path: Path
) -> None:
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    visit(tab, address)
    tab.get_by_label("Prompt").fill("a ring and a disc")
    draw(tab, "Box", (0.75, 0.625), (0.25, 0.125))
    draw(tab, "Point", (0.5, 0.25))
    tab.get_by_label("Phrase").fill("a red ring")
    tab.get_by_role("button", name="Add instance").click()
    expect(tab.get_by_label("Phrase")).to_have_value("", timeout=PATIENCE)
    draw(tab, "Mask", (0.1, 0.1), (0.5, 0.1), (0.1, 0.5))
    draw(tab, "Scribble", (0.1, 0.2), (0.3, 0.2))
    tab.get_by_label("Phrase").fill("a blue disc")
    tab.get_by_role("button", name="Draw", exact=True).click()  # adds what is on the canvas
    tab.locator("#pictures img").nth(1).wait_for()

    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("provenance.json")]
    (layout,) = record["layouts"]
    ring, disc = layout["instances"]
    assert layout["prompt"] == "a ring and a disc"
    assert ring == {"phrase": "a red ring", "box": near(0.25, 0.125, 0.75, 0.625), "point": near(0.5, 0.25)}
    assert disc.keys() == {"phrase", "mask", "scribble"}
    assert disc["phrase"] == "a blue disc"
    mask_HW = masks.decode(Rle(**disc["mask"]))
    assert masks.area(mask_HW) == pytest.approx(0.08, abs=0.005)
    assert masks.box_of(mask_HW) == near(0.1, 0.1, 0.5, 0.5)
    assert (disc["scribble"][0], disc["scribble"][-1]) == (near(0.1, 0.2), near(0.3, 0.2))
    (picture,) = [path for path in (tmp_path / "out").rglob("*.png") if "layout" not in path.name]
    assert Image.open(picture).size == (16, 16)
    shown = tab.locator("#pictures img").first.evaluate("one => one.decode().then(() => one.naturalWidth)")
    assert shown == 512  # enlarged to the canvas
    assert {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))} == {page.LOOPBACK}


def test_a_fault_is_shown_as_one_sentence_and_what_was_drawn_stays(tab: Tab, address: str, tmp_path: Path) -> None:
    visit(tab, address)
    draw(tab, "Box", (0.2, 0.2), (0.6, 0.6))
    tab.get_by_role("button", name="Draw", exact=True).click()
    tab.get_by_text("say what the instance is").wait_for()
    assert not (tmp_path / "out").exists()
    tab.get_by_label("Phrase").fill("a disc")
    tab.get_by_label("Phrase").press("Enter")
    expect(tab.get_by_label("Phrase")).to_have_value("", timeout=PATIENCE)
    expect(tab.locator("#written")).to_contain_text("a disc", timeout=PATIENCE)


def test_a_picture_to_start_from_is_drawn_over(tab: Tab, address: str, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), "red").save(tmp_path / "begun.png")
    visit(tab, address)
    tab.get_by_role("button", name="Start from a picture").click()
    tab.locator("#begun input[type=file]").set_input_files(tmp_path / "begun.png")
    tab.locator("#begun img").wait_for()
    tab.get_by_role("button", name="Draw", exact=True).click()
    tab.locator("#pictures img").nth(1).wait_for()
    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("provenance.json")]
    assert Image.open(record["image"]["path"]).getpixel((0, 0))[:3] == (255, 0, 0)
    assert record["options"]["strength"] == 0.8


@pytest.mark.parametrize(
    ("kind", "stroke", "says"),
    [
        ("box", [[0.5, 0.5], [0.5, 0.8]], "drag the box"),
        ("mask", [[0.5, 0.5], [0.5, 0.8]], "go round the mask"),
        ("circle", [[0.5, 0.5]], "no stroke of the kind 'circle'"),
    ],
)
def test_a_stroke_that_says_nothing_is_refused(kind: str, stroke: list[list[float]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        page.instance("a disc", {kind: stroke}, (512, 512))


def test_a_place_is_a_fraction_of_a_picture_of_any_shape(options: argparse.Namespace) -> None:
    options.width, options.height = 32, 16
    made = page.Page(shared("dpm"), options)
    assert made.size == (512, 256)
    drawn = page.instance(" a disc ", {"point": [[0.5, 0.25]], "mask": [[0, 0], [1, 0], [1, 1], [0, 1]]}, made.size)
    assert (drawn.phrase, drawn.point) == ("a disc", Point(0.5, 0.25))
    assert drawn.mask is not None and drawn.mask.size == (256, 512)
    assert masks.decode(drawn.mask).all()


def test_a_layout_file_is_opened_and_its_last_instance_removed(options: argparse.Namespace, tmp_path: Path) -> None:
    (tmp_path / "scene.json").write_text(json.dumps(LAYOUT))
    made = page.Page(shared("dpm"), options)
    prompt, drawn, *_ = made.opened(str(tmp_path / "scene.json"))
    assert (prompt, [one.box for one in drawn]) == ("a red ring", [Box(0.1, 0.1, 0.5, 0.6)])
    assert made.removed(prompt, drawn)[0] == []


def test_the_command_serves_the_options_it_was_given(
    options: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "loaded", lambda options: shared(options.solver))
    monkeypatch.setattr(page, "serve", lambda made, port: f"http://{page.LOOPBACK}:{port}/")
    (tmp_path / "scene.json").write_text(json.dumps(LAYOUT))
    command.main(["page", str(tmp_path / "scene.json"), "--ckpt", str(options.ckpt), "--port", "7999"])
    assert "http://127.0.0.1:7999/" in capsys.readouterr().out


SETTINGS = {  # of the page itself -> option of `instdiff generate`, and another value
    "seed": 7,
    "steps": 9,
    "alpha": 0.25,
    "mis": 0.125,
    "strength": 0.5,
}


def test_what_is_chosen_on_the_page_takes_the_place_of_the_option_and_moves_no_other(
    options: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[Layout], argparse.Namespace]] = []

    def write(_: object, layouts: list[Layout], chosen: argparse.Namespace, out: Path) -> list[dict[str, str]]:
        asked.append((layouts, chosen))
        out.mkdir(parents=True)
        Image.new("RGB", (16, 8)).save(out / "0.png")
        return [{"file": "0.png"}]

    monkeypatch.setattr(generate, "write", write)
    options.width, options.height = 16, 8
    made = page.Page(shared("dpm"), options)
    drawn = [Instance(phrase="a disc", box=Box(0, 0, 0.5, 1))]
    usual = {name: getattr(options, name) for name in SETTINGS}
    for name, value in [*SETTINGS.items(), ("begun", str(tmp_path / "begun.png"))]:
        pictures = made.drawn("a scene", drawn, **{**usual, "begun": None, name: value})
        assert [picture.size for picture in pictures] == [(512, 256)] * 2
        layouts, chosen = asked[-1]
        assert layouts == [Layout(key="drawn", prompt="a scene", instances=tuple(drawn))]
        moved = {option: held for option, held in vars(chosen).items() if held != getattr(options, option)}
        assert moved == ({"image": Path(str(value))} if name == "begun" else {name: value})


@pytest.mark.parametrize(
    ("given", "option", "value"),
    [
        ([], "solver", "dpm"),
        ([], "steps", 20),
        (["--solver", "unipc"], "solver", "unipc"),
        (["--steps", "9"], "steps", 9),
        (["--merge", "regions"], "merge", "regions"),
        (["--width", "24"], "width", 24),
        (["--compat", "reference"], "compat", "reference"),
    ],
)
def test_the_page_is_of_the_options_of_generate_and_begins_with_the_layout_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], option: str, value: object
) -> None:
    begun: list[object] = []

    class Shown:
        def __init__(self, _: object, chosen: argparse.Namespace) -> None:
            begun.append(getattr(chosen, option))

        def blocks(self, layout: Layout | None) -> SimpleNamespace:
            begun.append(layout)
            return SimpleNamespace(block_thread=lambda: begun.append("served"))

    monkeypatch.setattr(generate, "loaded", lambda chosen: getattr(chosen, option))
    monkeypatch.setattr(page, "Page", Shown)
    monkeypatch.setattr(page, "serve", lambda _, port: begun.append(port))
    (tmp_path / "scene.json").write_text(json.dumps([LAYOUT, LAYOUT]))
    command.main(["page", "--ckpt", "w", *given])
    assert begun == [value, None, 7860, "served"]
    begun.clear()
    command.main(["page", str(tmp_path / "scene.json"), "--ckpt", "w", "--port", "7999", *given])
    assert begun[0] == value
    assert begun[1].prompt == "a red ring"
    assert begun[2:] == [7999, "served"]


@pytest.mark.parametrize(("corners", "same"), [(2, False), (3, True), (4, True)])
def test_a_mask_is_gone_round_by_three_corners_at_least(corners: int, same: bool) -> None:
    stroke = [Point(0, 0), Point(1, 0), Point(1, 1), Point(0, 1)][:corners]
    if same:
        assert masks.decode(page.place("mask", stroke, (8, 4))).any()
    else:
        with pytest.raises(ValueError, match="go round the mask"):
            page.place("mask", stroke, (8, 4))


@pytest.mark.parametrize("kind", ["box", "scribble", "point"])
def test_a_stroke_may_run_in_any_direction_on_a_canvas_that_is_not_square(kind: str) -> None:
    stroke = [Point(0.75, 0.5), Point(0.25, 0.125)]
    expected = {"box": Box(0.25, 0.125, 0.75, 0.5), "point": Point(0.25, 0.125)}
    found = page.place(kind, stroke, (512, 256))
    if kind == "scribble":
        assert (found[0], found[-1]) == (stroke[0], stroke[1])
    else:
        assert found == expected[kind]
