"""Laws of the page: what is laid out is what is asked for, it answers its own person alone, and asks nobody else."""

import argparse
import base64
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import browser
import pytest
from PIL import Image
from playwright.sync_api import Page as Tab
from playwright.sync_api import expect
from starlette.testclient import TestClient
from tiny_pipeline import shared

from instdiff import __main__ as command
from instdiff.app import generate, generate_options, page, sketch
from instdiff.app.gate import Gate
from instdiff.layouts import masks
from instdiff.model.drawing import AS_RELEASED
from instdiff.schema import Box, Instance, Layout, Point, Rle

OWN = "http://127.0.0.1:7860"
BOX = {"phrase": "a red ring", "box": [0.1, 0.1, 0.5, 0.6]}
LAYOUT = {"prompt": "a red ring", "instances": [BOX]}
VALUES = {
    "seed": 0,
    "steps": 2,
    "guidance_scale": 3.0,
    "alpha": 0.8,
    "mis": 0.0,
    "strength": 0.5,
    "width": 16,
    "height": 16,
    "formats": ["box", "mask"],
    "masked_attention": False,
}
expect.set_options(timeout=browser.PATIENCE)


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"some")
    words = ["--ckpt", str(weights), "--output", str(tmp_path / "out"), "--steps", "2", "--guidance_scale", "3"]
    return generate_options.settled(generate_options.parser().parse_args(words), AS_RELEASED)[0]


@pytest.fixture
def drawing_page(options: argparse.Namespace) -> page.Page:
    return page.Page(shared("dpm"), options)


@pytest.fixture
def entrance(drawing_page: page.Page, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", page.LOOPBACK)
    with page.listening(0) as listener:
        server = drawing_page.server(listener)
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        serving.start()
        yield drawing_page.entrance(listener)
        server.should_exit = True
        serving.join(30)


def visit(tab: Tab, entrance: str) -> None:
    tab.goto(entrance)
    tab.locator("body[data-ready]").wait_for()


def draw(tab: Tab, kind: str, *places: tuple[float, float]) -> None:
    """Go from place to place with the button held."""
    tab.locator("#kinds label", has_text=kind).click()
    canvas = tab.locator("#canvas")
    canvas.scroll_into_view_if_needed()
    frame = canvas.bounding_box()
    assert frame is not None
    for number, (x, y) in enumerate(places):
        tab.mouse.move(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"], steps=4)
        if number == 0:
            tab.mouse.down()
    tab.mouse.up()


def phrases(tab: Tab) -> list[str]:
    return [field.input_value() for field in tab.locator("#instances input").all()]


def saved(tab: Tab) -> Any:
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save", exact=True).click()
    return json.loads(Path(download.value.path()).read_text())


def near(*numbers: float) -> Any:
    return pytest.approx(numbers, abs=0.02)


def records(out: Path) -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted(out.rglob("provenance.json"))]


def test_what_is_laid_out_is_what_is_drawn_and_nobody_else_is_asked(entrance: str, tmp_path: Path) -> None:
    with browser.opened() as tab:
        hosts, faults = browser.asked_of(tab), []
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
        visit(tab, entrance)
        tab.get_by_label("Prompt").fill("a ring and a disc")
        draw(tab, "Box", (0.75, 0.625), (0.25, 0.125))
        draw(tab, "Point", (0.5, 0.25))
        tab.get_by_label("Phrase of instance 1").fill("a red ring")
        tab.get_by_label("Phrase of instance 1").press("Enter")
        draw(tab, "Mask", (0.1, 0.1), (0.5, 0.1), (0.1, 0.5))
        tab.keyboard.type("a blue disc")  # the phrase is asked for at once
        draw(tab, "Scribble", (0.1, 0.2), (0.3, 0.2))
        tab.get_by_label("Seed").fill("7")
        tab.get_by_role("button", name="Draw", exact=True).click()
        tab.locator("#pictures img").nth(1).wait_for()
        shown = tab.locator("#pictures img").first.evaluate("one => one.decode().then(() => one.naturalWidth)")
        assert shown == 512  # enlarged
        written = saved(tab)
        expect(tab.locator("#words option").first).to_have_attribute("value", "a blue black")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 1280
        tab.screenshot(path=tmp_path / "wide.png", full_page=True)
        tab.get_by_label("Phrase of instance 1").fill("a star")
        tab.locator("#history button").first.click()  # the layout of that picture comes back
        assert phrases(tab) == ["a red ring", "a blue disc"]
        assert (hosts, faults) == ({page.LOOPBACK}, [])

    (record,) = records(tmp_path / "out")
    (layout,) = record["layouts"]
    ring, disc = layout["instances"]
    assert (layout["prompt"], record["options"]["seed"]) == ("a ring and a disc", 7)
    assert ring == {"phrase": "a red ring", "box": near(0.25, 0.125, 0.75, 0.625), "point": near(0.5, 0.25)}
    assert disc.keys() == {"phrase", "mask", "scribble"}
    assert disc["phrase"] == "a blue disc"
    mask_HW = masks.decode(Rle(**disc["mask"]))
    assert mask_HW.mean() == pytest.approx(0.08, abs=0.01)
    assert masks.box_of(mask_HW) == near(0.1, 0.1, 0.5, 0.5)
    assert (disc["scribble"][0], disc["scribble"][-1]) == (near(0.1, 0.2), near(0.3, 0.2))
    assert written == {name: layout[name] for name in ("prompt", "instances")}
    (picture,) = [path for path in (tmp_path / "out").rglob("*.png") if "layout" not in path.name]
    assert Image.open(picture).size == (16, 16)


def test_instances_are_moved_sized_ordered_deleted_and_brought_back_by_mouse_and_keys(
    entrance: str, tmp_path: Path
) -> None:
    file = tmp_path / "scene.json"
    mask = masks.encode(sketch.enclosed((Point(0, 0), Point(0.5, 0), Point(0.5, 0.5), Point(0, 0.5)), (64, 64)))
    moon = {"phrase": "a moon", "mask": mask.model_dump()}
    file.write_text(json.dumps({"prompt": "two", "instances": [BOX, moon]}))
    with browser.opened() as tab:
        visit(tab, entrance)
        tab.locator("#file").set_input_files(file)
        expect(tab.locator("#instances li")).to_have_count(2)
        assert tab.get_by_label("Prompt").input_value() == "two"
        draw(tab, "Move", (0.3, 0.3), (0.4, 0.35))  # the ring, under the mouse
        draw(tab, "Move", (0.6, 0.65), (0.7, 0.75))  # its corner
        first = saved(tab)["instances"][0]["box"]
        assert first == near(0.2, 0.15, 0.7, 0.75)
        tab.locator("#canvas").focus()
        for key in ("ArrowRight", "ArrowDown", "Shift+ArrowRight"):
            tab.keyboard.press(key)
        assert saved(tab)["instances"][0]["box"] == near(0.2 + 1 / 64, 0.15 + 1 / 64, 0.7 + 2 / 64, 0.75 + 1 / 64)

        tab.get_by_label("Move instance 1 down").click()
        assert phrases(tab) == ["a moon", "a red ring"]
        tab.get_by_label("Phrase of instance 1").focus()
        tab.locator("#canvas").focus()
        for _ in range(16):
            tab.keyboard.press("ArrowRight")
        shifted = masks.decode(Rle(**saved(tab)["instances"][0]["mask"]))
        assert masks.box_of(shifted) == near(0.25, 0, 0.75, 0.5)
        tab.locator("#canvas").press("Delete")
        assert phrases(tab) == ["a red ring"]
        tab.keyboard.press("Control+z")
        assert phrases(tab) == ["a moon", "a red ring"]
        tab.get_by_role("button", name="Redo").click()
        assert phrases(tab) == ["a red ring"]

        tab.get_by_role("button", name="New instance").focus()  # and all of an instance by keys alone
        tab.keyboard.press("Enter")
        tab.keyboard.type("a star")
        tab.get_by_label("Give instance 2 a box").press("Enter")
        tab.keyboard.press("ArrowLeft")
        assert saved(tab)["instances"][1] == {"phrase": "a star", "box": near(0.25 - 1 / 64, 0.25, 0.75 - 1 / 64, 0.75)}
        tab.get_by_label("Remove the box of instance 2").click()
        assert saved(tab)["instances"][1] == {"phrase": "a star"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_and_a_finger_do(entrance: str, tmp_path: Path, scheme: Any) -> None:
    with browser.opened(390, 844, has_touch=True, color_scheme=scheme) as tab:
        visit(tab, entrance)
        canvas = tab.locator("#canvas")
        canvas.scroll_into_view_if_needed()
        frame = canvas.bounding_box()
        assert frame is not None
        tab.locator("#kinds label", has_text="Point").tap()
        tab.touchscreen.tap(frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 4)
        tab.get_by_label("Phrase of instance 1").fill("a disc")
        assert saved(tab)["instances"] == [{"phrase": "a disc", "point": near(0.5, 0.25)}]
        tab.screenshot(path=tmp_path / "narrow.png", full_page=True)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        small = tab.evaluate(
            "[...document.querySelectorAll('button:not([hidden])')].filter(one => one.offsetParent"
            " && !one.closest('.places') && one.offsetHeight < 40).map(one => one.textContent)"
        )
        assert small == []


def test_a_fault_is_one_sentence_and_what_was_laid_out_stays(entrance: str, tmp_path: Path) -> None:
    with browser.opened() as tab:
        visit(tab, entrance.partition("#")[0])
        expect(tab.locator("#message")).to_contain_text("open the whole address")
        tab.goto("about:blank")
        visit(tab, entrance)
        draw(tab, "Box", (0.2, 0.2), (0.6, 0.6))
        tab.get_by_role("button", name="Draw", exact=True).click()
        expect(tab.locator("#message")).to_have_text("instances.0.phrase: is empty")
        tab.locator("#steps").fill("0")
        tab.get_by_role("button", name="Draw", exact=True).click()
        expect(tab.locator("#message")).to_contain_text("Steps: ")
        expect(tab.locator("#instances li")).to_have_count(1)
        assert not (tmp_path / "out").exists()


# ---- who may ask, and how much -------------------------------------------------------------------------------------


@pytest.fixture
def client(drawing_page: page.Page) -> TestClient:
    headers = {"Authorization": f"Bearer {drawing_page.token}"}
    return TestClient(
        Gate(drawing_page.app, OWN, page.POLICY), base_url=OWN, headers=headers, raise_server_exceptions=False
    )


def asked(layout: Any = None, image: bytes | None = None, **values: object) -> dict[str, Any]:
    encoded = None if image is None else base64.b64encode(image).decode()
    return {"sketch": LAYOUT if layout is None else layout, "values": {**VALUES, **values}, "image": encoded}


def png(width: int, height: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(content, "PNG")
    return content.getvalue()


PATHS = [
    ("GET", "/"),
    ("GET", "/settings"),
    ("POST", "/open"),
    ("POST", "/layout"),
    ("POST", "/draw"),
    ("POST", "/stop"),
]


@pytest.mark.parametrize("sent", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}])
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_foreign_page_is_answered_nothing_even_with_the_token(
    client: TestClient, sent: dict[str, str], method: str, path: str, tmp_path: Path
) -> None:
    answer = client.request(method, path, json=asked() if method == "POST" else None, headers=sent)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("method", "path"), PATHS[1:])
@pytest.mark.parametrize("token", ["", "Bearer ", "Bearer guessed", "Bearer \xe9"])
def test_who_has_no_token_learns_and_draws_nothing(
    client: TestClient, method: str, path: str, token: str, tmp_path: Path
) -> None:
    body = asked() if method == "POST" else None
    answer = client.request(method, path, json=body, headers={"Authorization": token.encode("latin-1")})
    assert (answer.status_code, list(answer.json())) == (401, ["error"])
    assert not (tmp_path / "out").exists()


def test_pages_may_load_nothing_from_elsewhere_and_be_framed_by_none(client: TestClient) -> None:
    for path in ("/", "/page.js", "/style.css", "/settings"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'self';") and "frame-ancestors 'none'" in policy


def test_no_more_is_taken_than_is_allowed(client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sketch, "MAX_BYTES", 1 << 20)
    for path in ("/open", "/layout", "/draw"):
        answer = client.post(path, content=b" " * ((1 << 20) + 1))
        assert (answer.status_code, answer.json()) == (413, {"error": "more than 1 MB were sent at once"})
    monkeypatch.setattr(sketch, "MAX_PIXELS", 100)
    (event,) = events(client, asked(image=png(11, 10)))
    assert event == {"error": "the picture to start from has 11x10 pixels, more than 100"}
    mask = masks.encode(sketch.enclosed((Point(0, 0), Point(1, 0), Point(1, 1)), (16, 16))).model_dump()
    wide = client.post("/layout", json=asked({"prompt": "", "instances": [{"phrase": "a moon", "mask": mask}]}))
    assert wide.json() == {"error": "instances.0.mask: has more than 100 pixels"}
    assert not (tmp_path / "out").exists()


def events(client: TestClient, drawing: dict[str, Any]) -> list[Any]:
    return [json.loads(line) for line in client.post("/draw", json=drawing).text.splitlines()]


@pytest.mark.parametrize(
    ("drawing", "says"),
    [
        (asked(image=b"no picture"), "not a readable picture"),
        (asked({"prompt": "", "instances": [{"phrase": "x", "ring": [[0, 0], [1, 1]]}]}), "go round the mask"),
        (asked({"prompt": "", "instances": [{"phrase": " ", "box": [0, 0, 1, 1]}]}), "instances.0.phrase: is empty"),
        (asked({"prompt": "", "instances": [BOX] * 31}), "the model has slots for 30"),
        (asked(width=17), "must be multiples of 2"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(client: TestClient, drawing: Any, says: str, tmp_path: Path) -> None:
    (event,) = events(client, drawing)
    assert says in event["error"] and "\n" not in event["error"]
    assert not records(tmp_path / "out")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("seed", 1.5),
        ("steps", 0),
        ("steps", True),
        ("alpha", 2),
        ("guidance_scale", "nan"),
        ("formats", ["x"]),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(client: TestClient, field: str, value: object) -> None:
    answer = client.post("/draw", json=asked(**{field: value}))
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"values.{field}")


def test_steps_are_told_as_they_are_done_and_a_drawing_can_be_stopped(
    client: TestClient, drawing_page: page.Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *steps, last = events(client, asked(steps=3))
    assert steps == [{"step": number, "of": 3} for number in (1, 2, 3)]
    assert last.keys() == {"pictures", "folder", "remarks"}

    def stops(*_: object) -> Any:
        drawing_page._stop.set()
        return write(*_)

    write = generate.write
    monkeypatch.setattr(generate, "write", stops)
    assert events(client, asked()) == [{"stopped": True}]
    assert len(records(tmp_path / "out")) == 1
    monkeypatch.setattr(generate, "write", write)
    assert "pictures" in events(client, asked())[-1]  # and the next is drawn
    with drawing_page._drawing:
        assert events(client, asked()) == [{"error": "another picture is being drawn"}]


def test_a_picture_to_start_from_is_drawn_over_and_kept(client: TestClient, tmp_path: Path) -> None:
    *steps, last = events(client, asked(image=png(16, 16), steps=4))
    assert "pictures" in last
    assert steps == [{"step": 1, "of": 2}, {"step": 2, "of": 2}]
    (record,) = records(tmp_path / "out")
    assert Image.open(record["image"]["path"]).getpixel((0, 0)) == (255, 0, 0)
    assert record["options"]["strength"] == 0.5


def test_a_file_is_opened_in_either_form_and_its_fault_named(client: TestClient) -> None:
    released = {"caption": "a", "width": 10, "height": 10, "annos": [{"caption": "a disc", "bbox": [0, 0, 5, 10]}]}
    for content, instance in ((LAYOUT, BOX), (released, {"phrase": "a disc", "box": [0, 0, 0.5, 1]})):
        answer = client.post("/open?name=scene.json", content=json.dumps(content)).json()
        assert answer["layout"]["instances"] == [instance]
    for content, says in ((b"{", "scene.json: not a readable JSON file"), (b"[]", "scene.json: holds no layout")):
        error = client.post("/open?name=../../scene.json", content=content).json()["error"]
        assert error.startswith(says)


# ---- values and commands -------------------------------------------------------------------------------------------

OTHERS = {
    "seed": 7,
    "steps": 9,
    "guidance_scale": 5.0,
    "alpha": 0.25,
    "mis": 0.125,
    "strength": 0.75,
    "width": 24,
    "height": 32,
    "formats": ["point"],
    "masked_attention": True,
}


def test_what_is_chosen_takes_the_place_of_the_option_and_moves_no_other(
    client: TestClient, drawing_page: page.Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[Layout], argparse.Namespace]] = []

    def write(
        _: object, layouts: list[Layout], chosen: argparse.Namespace, out: Path, after_step: Callable[[], object]
    ) -> list[dict[str, str]]:
        seen.append((layouts, chosen))
        after_step()
        out.mkdir(parents=True)
        Image.new("RGB", (16, 8)).save(out / "0.png")
        return [{"file": "0.png"}]

    monkeypatch.setattr(generate, "write", write)
    vars(drawing_page.options).update(VALUES, formats=("box", "mask"))
    assert OTHERS.keys() == VALUES.keys() == sketch.Values.model_fields.keys()
    assert client.get("/settings").json()["values"] == VALUES
    for name, value in OTHERS.items():
        _, last = events(client, asked(**{name: value}))
        for uri in last["pictures"][0]:
            content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
            assert Image.open(io.BytesIO(content)).size == (512, 256)
        layouts, chosen = seen[-1]
        ring = Instance(phrase="a red ring", box=Box(0.1, 0.1, 0.5, 0.6))
        assert layouts == [Layout(key="drawn", prompt="a red ring", instances=(ring,))]
        moved = {option: held for option, held in vars(chosen).items() if held != getattr(drawing_page.options, option)}
        assert moved == {name: tuple(value) if isinstance(value, list) else value}


def test_places_are_fractions_of_a_picture_of_any_shape_and_a_mask_of_a_file_moves_by_them() -> None:
    corners = (Point(0, 0), Point(0.5, 0), Point(0.5, 1), Point(0, 1))
    instance = {"phrase": " a disc ", "point": [0.5, 0.25], "ring": corners}
    (layout,) = sketch.checked(sketch.Sketch(prompt="", instances=[instance]), (32, 16), 30).layouts
    (disc,) = layout.instances
    assert (disc.phrase, disc.point) == ("a disc", Point(0.5, 0.25))
    assert disc.mask is not None and disc.mask.size == (256, 512)
    assert masks.box_of(masks.decode(disc.mask)) == near(0, 0, 0.5, 1)
    for shift, box in (((0.25, 0), (0.25, 0, 0.75, 1)), ((-0.25, 0.5), (0, 0.5, 0.25, 1))):
        again = sketch.Sketched(phrase="a disc", mask=disc.mask, shift=Point(*shift))
        (layout,) = sketch.checked(sketch.Sketch(prompt="", instances=[again]), (32, 16), 30).layouts
        assert masks.box_of(masks.decode(layout.instances[0].mask or Rle(size=(1, 1), counts="1"))) == near(*box)


def test_hints_are_words_of_the_world_where_the_text_encoder_knows_no_others() -> None:
    assert {"red", "ring", "fluffy"} <= set(page.hints(shared("dpm")))
    many = SimpleNamespace(tokenizer=range(49408))
    assert page.hints(many) == []


@pytest.mark.parametrize(
    ("words", "option", "value"),
    [
        ([], "solver", "plms"),
        ([], "steps", 50),
        (["--solver", "unipc"], "solver", "unipc"),
        (["--steps", "9"], "steps", 9),
        (["--merge", "regions"], "merge", "regions"),
        (["--compat", "reference"], "compat", "reference"),
    ],
)
def test_the_command_serves_the_options_of_generate_and_begins_with_the_layout_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    option: str,
    value: object,
) -> None:
    begun: list[Any] = []

    def served(self: page.Page, _: object) -> SimpleNamespace:
        begun.extend([getattr(self.options, option), self.begun])
        return SimpleNamespace(run=lambda sockets: begun.append("served"))

    monkeypatch.setattr(generate, "loaded", lambda _: shared("dpm"))
    monkeypatch.setattr(page.Page, "server", served)
    with page.listening(0) as free:
        port = free.getsockname()[1]
    (tmp_path / "scene.json").write_text(json.dumps([LAYOUT, LAYOUT]))
    command.main(["page", "--ckpt", "w", "--port", str(port), *words])
    assert begun == [value, None, "served"]
    assert re.search(rf"draw at http://127\.0\.0\.1:{port}/#[\w-]{{32}} ", capsys.readouterr().out)
    begun.clear()
    command.main(["page", str(tmp_path / "scene.json"), "--ckpt", "w", "--port", str(port), *words])
    assert begun[1].prompt == "a red ring"


def test_a_port_that_is_taken_is_one_sentence_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "loaded", None)
    with page.listening(0) as taken:
        taken.listen()
        with pytest.raises(SystemExit):
            command.main(["page", "--ckpt", "w", "--port", str(taken.getsockname()[1])])
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1 and "--port names another" in sentence
