"""The report: rows that cannot be compared are refused, what is suspicious is said, and the page opens in a browser."""

import base64
import datetime as dt
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import browser
import eval_world
import numpy as np
import pandas as pd
import pytest
from eval_world import JUDGES
from eval_world import PARAMS as SCORE
from PIL import Image

from eval import report
from eval.inputs import detections, ground_truth, pictures
from eval.pages import figures, report_page, sheet
from eval.scoring import headline, score_row
from eval.scoring import row as row_of_table
from instdiff.files import provenance, tables
from instdiff.layouts import from_tables, html
from instdiff.layouts.table_rows import TableRow
from instdiff.schema import Box, Instance, Layout, Point
from instdiff.work.ledger import LEDGER

ROOT = Path(__file__).parents[3]


def described(meaning: str) -> TableRow:
    return TableRow(meaning=meaning, pictures="drawn", formats=(), mis=0.0)


PARAMS = report.Params(
    rows={name: described(name) for name in ("real", "none", "box")},
    num_layouts=3,
    num_failures=2,
    max_side=64,
    sheet_rows=("real", "box", "not in this table"),
    sheet_layouts=2,
    sheet_side=16,
)
DETECTED_AS = {"none": dict.fromkeys((("a", 0), ("c", 0), ("c", 1))), "box": {("b", 0): None}}


def _scored(world: Path, row: str, folder: Path) -> None:
    truth = ground_truth.load(world / "images.parquet", world / "annotated.parquet")
    judged = pictures.find(folder, truth.images, None)
    found_at = world / "detections" / f"{row}.json"
    eval_world.detected(found_at, judged)
    inputs = row_of_table.Inputs(
        truth, judged, pictures.find(world / "real", truth.images, None), detections.read(found_at, judged.sizes)
    )
    scored = score_row.score(row, row_of_table.checked(row, inputs), JUDGES, SCORE)
    score_row.write(world / "scores" / row, scored, row_of_table.sources(row, inputs, "judge", SCORE))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows scored, a training log, a ledger and counts: all that the stage reads."""
    world = tmp_path_factory.mktemp("report")
    eval_world.write(world)
    _scored(world, "real", world / "real")
    for row, left_out in DETECTED_AS.items():
        eval_world.draw(world / "generated" / row, dict(left_out), background=90)
        provenance.write(world / "generated" / row, [], weights={"unet": "hash-of-the-unet"})
        _scored(world, row, world / "generated" / row)
    (world / "instance").mkdir()
    (world / "instance" / "log.csv").write_text(
        "step,loss,lr,seconds,gate\n0,0.5,0.1,0,0\n10,0.3,0.1,1,0.2\n20,0.2,0,2,\n"
    )
    ledger = [{"key": "x", "index": 0, "reason": "too_small", "detail": "<b>&"}] * 3
    tables.write(world / "ledger" / "annotate-val.parquet", pd.DataFrame(ledger), LEDGER)
    (world / "data").mkdir()
    (world / "data" / "look.html").write_text("what was trained on")
    (world / "stats").mkdir()
    (world / "stats" / "annotate-val.json").write_text('{"kept": 7, "dropped_too_small": 3}')
    return world


@pytest.fixture
def world(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(finished, tmp_path / "world"))


def _run(world: Path, params: report.Params = PARAMS) -> dict[str, float]:
    return report.run(
        scores=world / "scores",
        pictures=world / "real",
        generated=world / "generated",
        images=world / "images.parquet",
        annotated=world / "annotated.parquet",
        stats_folder=world / "stats",
        ledger=world / "ledger",
        look=world / "data" / "look.html",
        instance=world / "instance",
        metrics=world / "metrics.json",
        samples=world / "samples.png",
        report=world / "report.html",
        params=params,
    )


def _alter(path: Path, **changed: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_the_headline_table_has_its_exact_shape(world: Path) -> None:
    assert _run(world)["alarms"] == 0
    metrics = json.loads((world / "metrics.json").read_text())
    assert list(metrics) == ["real", "none", "box"]
    for row in metrics.values():
        assert tuple(row) == tuple(headline.HEADLINE)
        assert all(list(metric) == ["value", "n", "low", "high", "better"] for metric in row.values())


def test_the_report_links_to_the_page_of_the_data_beside_it_and_where_both_are_served(world: Path) -> None:
    served = hashlib.md5(b"what was trained on", usedforsecurity=False).hexdigest()
    assert f'href="data/look.html" data-served="/{served}"' in _page(world)


def test_a_row_that_was_not_scored_is_named(world: Path) -> None:
    with pytest.raises(ValueError, match="row 'mask' was not scored"):
        _run(world, PARAMS.model_copy(update={"rows": PARAMS.rows | {"mask": described("masks")}}))
    assert not (world / "metrics.json").exists()


@pytest.mark.parametrize("row", ["none", "box"])
@pytest.mark.parametrize("what", ["annotated", "images", "real_pictures", "judge", "settings"])
def test_rows_judged_on_or_by_something_else_are_refused(world: Path, what: str, row: str) -> None:
    _alter(world / "scores" / row / "provenance.json", **{what: "other"})
    with pytest.raises(ValueError, match=f"'real' and '{row}' cannot be compared: their {what} differ"):
        _run(world)


@pytest.mark.parametrize("row", ["none", "box"])
def test_rows_of_two_detectors_are_refused(world: Path, row: str) -> None:
    _alter(world / "scores" / row / "provenance.json", detected_by={"detector": "other"})
    with pytest.raises(ValueError, match=f"'real' and '{row}' cannot be compared: their detectors differ"):
        _run(world)


def test_a_row_that_equals_the_real_one_raises_an_alarm_on_the_page(world: Path) -> None:
    shutil.copy(world / "scores" / "real" / "metrics.json", world / "scores" / "box" / "metrics.json")
    assert _run(world)["alarms"] == 1
    assert "Row box equals the real row in every metric" in (world / "report.html").read_text()


def test_rows_drawn_by_other_weights_raise_an_alarm(world: Path) -> None:
    _run(world)
    assert (world / "report.html").read_text().count("hash-of-the-unet") == 1
    _alter(world / "scores" / "box" / "provenance.json", drawn_by={"weights": {"unet": "another"}})
    assert _run(world)["alarms"] == 1
    assert "not all drawn by the same weights" in (world / "report.html").read_text()


@pytest.mark.parametrize("record", [{"weights": {"vae": "its own"}}, {"row": "box"}])
def test_rows_that_no_network_of_ours_drew_raise_none(world: Path, record: dict[str, Any]) -> None:
    _alter(world / "scores" / "box" / "provenance.json", drawn_by=record)  # reconstructed, or by a command
    assert _run(world)["alarms"] == 0


def test_a_table_without_the_real_row_raises_an_alarm(world: Path) -> None:
    rows = report.read(world / "scores", {name: described("") for name in ("none", "box")})
    assert report.alarms(rows) == [
        "There is no real row: nothing says how far the detector and the judge can be trusted."
    ]


def _row(name: str, **metrics: float | tuple[float, float, float]) -> report.ReportRow:
    """A row of these values, or (value, low, high); the other headline metrics are 0.5."""
    value_of = {name: metrics.get(name, 0.5) for name in headline.HEADLINE}
    ends = {name: value if isinstance(value, tuple) else (value, 0.0, 1.0) for name, value in value_of.items()}
    values = {name: {"value": at, "n": 9, "low": low, "high": high} for name, (at, low, high) in ends.items()}
    return report.ReportRow(name, "", values, pd.DataFrame(), {"pictures": name})


@pytest.mark.parametrize(
    ("low", "alarmed"), [(0.3, False), (0.69, False), (0.7, False), (0.701, True)]
)  # real reaches from 0.5 to 0.7
def test_a_row_above_the_real_one_raises_an_alarm_only_when_their_intervals_lie_apart(
    low: float, alarmed: bool
) -> None:
    rows = [_row("real", box_ap50=(0.6, 0.5, 0.7)), _row("box", box_ap50=(0.9, low, 0.95))]
    assert len(report.alarms(rows)) == alarmed
    assert all("Row box has a higher box AP50 than the real pictures" in sentence for sentence in report.alarms(rows))


@pytest.mark.parametrize("name", headline.HEADLINE)
def test_a_row_equals_the_real_one_when_no_number_that_can_differ_does(name: str) -> None:
    sentences = report.alarms([_row("real"), _row("box", **{name: 0.4})])
    assert len(sentences) == (name == "fid")  # which is 0 for the real pictures themselves


def test_a_row_of_the_real_pictures_raises_an_alarm_whatever_its_numbers() -> None:
    box = _row("box", pim=0.4)._replace(provenance={"pictures": "real"})
    assert "equals the real row" in report.alarms([_row("real"), box])[0]


def test_what_was_not_measured_is_said() -> None:
    box = _row("box", pim=0.4)
    del box.metrics["colour_leak"], box.metrics["fid"]
    assert report.alarms([_row("real"), box]) == [
        "Row box: not measured, because no instance asks for it: colour_leak, fid."
    ]


class _Links(HTMLParser):
    """What a page would load, and the ids it defines and uses."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.used: list[str] = []
        self.defined: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        target = attributes.get("href", attributes.get("src", ""))
        kind = self.used if target.startswith("#") else self.linked if tag == "a" else self.loaded
        kind.extend([target] if target else [])
        self.defined += [attributes["id"]] if "id" in attributes else []


def test_the_page_loads_nothing_and_every_reference_in_it_is_defined(world: Path) -> None:
    _run(world)
    links = _Links()
    text = (world / "report.html").read_text()
    links.feed(text)
    assert links.loaded and all(link.startswith("data:image/webp;base64,") for link in links.loaded)
    assert links.linked == ["data/look.html"]
    assert len(links.defined) == len(set(links.defined))
    assert {link[1:] for link in links.used} <= set(links.defined)
    assert "url(" not in text and "@import" not in text and "http" not in re.sub(r"base64,[^\"]*", "", text)


def test_a_control_is_what_our_model_did_not_draw_or_drew_from_the_prompt_alone(finished: Path) -> None:
    truth = ground_truth.load(finished / "images.parquet", finished / "annotated.parquet")
    folders = {"real": finished / "real"} | {row: finished / "generated" / row for row in DETECTED_AS}
    of = report_page.sources(truth, folders, None, 64)
    real = TableRow(meaning="", pictures="real", formats=("box",), mis=0.0)
    table = {"real": real, "none": described(""), "box": real.model_copy(update={"pictures": "drawn"})}
    rows = report.read(finished / "scores", table)
    params = PARAMS.model_copy(update={"rows": table})
    link = report_page.Link("data/look.html", "/digest")
    shown = report.content(rows, of, params, {}, None, link)
    assert (shown["controls"], shown["first_drawn"]) == (["real", "none"], "box")
    shown = report.content(rows[:2], of, params, {}, None, link)
    assert (shown["first_drawn"], shown["curves"]) == ("real", [])


def test_what_was_dropped_is_counted_with_its_reason_and_escaped(world: Path) -> None:
    _run(world)
    text = (world / "report.html").read_text()
    assert "too_small" in text and "dropped_too_small 3" in text
    assert "x, &lt;b&gt;&amp;" in text and "<b>&" not in text


def test_samples_take_every_group_in_turn(finished: Path) -> None:
    truth = ground_truth.load(finished / "images.parquet", finished / "annotated.parquet")
    assert report_page.chosen(truth, 3) == ["b", "a", "d"]  # crowded, mixed, same_shape
    assert report_page.chosen(truth, 99) == ["b", "c", "a", "d"]


def test_the_worst_instances_come_first_with_what_went_wrong(finished: Path) -> None:
    row = report.read(finished / "scores", {"box": described("")})[0]
    first = report_page.worst(row.instances, 1).iloc[0]
    assert (first["key"], first["index"], first["place"]) == ("b", 0, 0)
    assert report_page.faults(first.to_dict())[:2] == ["not found", "wrong colour"]


@pytest.mark.parametrize(
    ("mask_iou", "words"), [(0.0, ["not found"]), (1e-9, ["misplaced"]), (0.4999, ["misplaced"]), (0.5, [])]
)
def test_an_instance_is_misplaced_below_half_and_not_found_at_nothing(mask_iou: float, words: list[str]) -> None:
    right = dict.fromkeys(("wrong_colour", "wrong_texture", "wrong_shape"), False)
    assert report_page.faults({"mask_iou": mask_iou, "leak": False, **right}) == words


def test_the_worst_are_sorted_by_overlap_then_colour_shape_and_texture_then_place() -> None:
    ring = {"category": "ring", "colour": "red", "texture": "glass", "area": 0.1}
    seen = {"judged_shape": "ring", "judged_colour": "red", "judged_texture": "glass"}
    faults: list[tuple[str, float, dict[str, str]]] = [
        ("texture", 0.2, {"judged_texture": "rubber"}),
        ("better", 0.3, {"judged_colour": "blue", "judged_shape": "disc"}),
        ("colour", 0.2, {"judged_colour": "blue"}),
        ("shape", 0.2, {"judged_shape": "disc"}),
        ("right", 0.2, {}),
        ("least", 0.1, {}),
        ("also", 0.2, {}),
    ]
    rows = [{"key": key, "index": 0, "mask_iou": iou, **ring, **seen, **wrong} for key, iou, wrong in faults]
    order = ["least", "colour", "shape", "texture", "also", "right", "better"]
    for turned in (rows, rows[::-1]):
        assert report_page.worst(pd.DataFrame(turned), 99)["key"].tolist() == order
        assert report_page.worst(pd.DataFrame(turned), 3)["key"].tolist() == order[:3]


def test_a_failed_instance_is_shown_as_asked_and_with_no_score_where_nothing_was_found() -> None:
    images = pd.DataFrame([{"key": "a", "width": 30, "height": 20}])
    instances = tuple(Instance(phrase=phrase, box=Box(0, 0, 1, 1)) for phrase in ("lost", "moved", "right"))
    layouts = {"a": Layout(key="a", prompt="", instances=instances)}
    of = report_page.Sources(ground_truth.GroundTruth(images, pd.DataFrame(), {}), layouts, {}, 64)
    seen = {"judged_colour": "blue", "judged_texture": "glass", "judged_shape": "ring"}
    shared = {"key": "a", "group": "mixed", "category": "ring", "texture": "glass", "area": 0.1, **seen}
    rows = [
        {"index": 0, "mask_iou": 0.0, "detection_score": None, "colour": None, "leak": None},
        {"index": 1, "mask_iou": 0.25, "detection_score": 0.75, "colour": "red", "leak": True},
        {"index": 2, "mask_iou": 0.5, "detection_score": 0.5, "colour": "blue", "leak": False},
    ]
    numbers = dict.fromkeys(("area", "mask_iou", "detection_score"), "float")
    table = pd.DataFrame([shared | row for row in rows], dtype=object).astype({"leak": "boolean", **numbers})
    failed = report_page.failures(of, "box", table, 3)
    assert [(each.phrase, each.detection_score, each.colour, each.faults) for each in failed] == [
        ("lost", None, "", ["not found"]),
        ("moved", 0.75, "red", ["misplaced", "wrong colour", "neighbour's colour"]),
        ("right", 0.5, "blue", []),
    ]
    assert {(each.row, each.aspect, each.judged) for each in failed} == {("box", 1.5, "blue glass ring")}


def test_a_third_of_the_instances_is_small_a_third_medium_and_a_third_large() -> None:
    columns = dict.fromkeys(("category", "colour", "texture", "judged_shape", "judged_colour", "judged_texture"), "a")
    for count in (3, 6, 9):
        rows = [{"key": "a", "index": n, "mask_iou": n / 10, "area": 0.1 * n, **columns} for n in range(count)]
        sizes = report_page.worst(pd.DataFrame(rows), 99)["size"].tolist()
        assert sizes == [size for size in report_page.SIZES for _ in range(count // 3)]


def test_a_wide_picture_is_shown_wide(finished: Path) -> None:
    truth = ground_truth.load(finished / "images.parquet", finished / "annotated.parquet")
    of = report_page.sources(truth, {"real": finished / "real"}, None, 64)
    for (key, *_), (height, width) in zip(eval_world.SCENES, eval_world.SIZES, strict=True):
        assert of.aspect(key) == width / height
        assert [sample.aspect for sample in report_page.samples(of, [key])] == [width / height]


def test_boxes_points_and_scribbles_are_drawn_where_they_are() -> None:
    provenance = Instance(
        phrase="a", box=Box(0.1, 0.2, 0.5, 0.3), point=Point(0.25, 0.75), scribble=(Point(0.125, 0.5),)
    )
    text = str(html.overlay([provenance]))
    assert '<g class="boxes"><rect x="0.1" y="0.2" width="0.4" height="0.1"/></g>' in text
    circles = re.findall(r'class="(\w+)"><circle cx="([^"]*)" cy="([^"]*)"', text)
    assert circles == [("points", "0.25", "0.75"), ("scribbles", "0.125", "0.5")]


def test_what_was_dropped_and_what_failed_is_counted_by_stage_and_reason(tmp_path: Path) -> None:
    (tmp_path / "stats").mkdir()
    (tmp_path / "stats" / "a.json").write_text('{"kept": 7, "dropped_small": 3, "failed": 1, "seconds": 2}')
    (tmp_path / "stats" / "b.json").write_text('{"kept": 7}')
    rows = [("x", "small", ""), ("y", "large", "9"), ("z", "small", "8")]
    lost = [{"key": key, "index": 0, "reason": reason, "detail": detail} for key, reason, detail in rows]
    tables.write(tmp_path / "ledger" / "annotate-val" / "00000.parquet", pd.DataFrame(lost), LEDGER)
    assert report_page.dropped(tmp_path / "stats", tmp_path / "ledger") == {
        "counts": {"a": {"dropped_small": 3, "failed": 1}},
        "reasons": [
            {"stage": "annotate-val", "reason": "large", "count": 1, "example": "y, 9"},
            {"stage": "annotate-val", "reason": "small", "count": 2, "example": "x"},
        ],
    }


@pytest.mark.parametrize(("max_side", "size"), [(31, (15, 31)), (32, (16, 32)), (33, (16, 32))])
def test_a_picture_is_made_smaller_only_when_a_side_is_longer_than_it_may_be(
    max_side: int, size: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 16, 3)).astype(np.uint8)
    content = html.data_uri(pixels, max_side).removeprefix("data:image/webp;base64,")
    read = Image.open(io.BytesIO(base64.b64decode(content)))
    assert read.size == size
    assert np.array_equal(np.asarray(read), pixels) == (max_side >= 32)


@pytest.mark.parametrize("count", [figures.MAX_KNOTS - 1, figures.MAX_KNOTS, figures.MAX_KNOTS + 1])
def test_a_curve_has_a_knot_a_line_of_the_log_up_to_the_most_it_may_have(count: int) -> None:
    log = pd.DataFrame({"step": range(count), "loss": np.linspace(1, 0, count)})
    (curve,) = figures.curves(log)
    assert len(curve.path.split()) == min(count, figures.MAX_KNOTS)


def _page(world: Path, **changed: object) -> str:
    _run(world, PARAMS.model_copy(update=changed))
    return (world / "report.html").read_text()


def _sheet_size(world: Path, **values: object) -> tuple[int, int]:
    _page(world, **values)
    with Image.open(world / "samples.png") as sheet:
        return sheet.size


def test_each_value_of_the_stage_reaches_what_it_is_for(world: Path) -> None:
    text = _page(world)
    few = _page(world, rows={"real": described("upper"), "box": described("with <i>boxes</i>")})
    assert list(json.loads((world / "metrics.json").read_text())) == ["real", "box"]
    assert "with &lt;i&gt;boxes&lt;/i&gt;" in few and "boxes</i>" not in text
    sizes = {"sheet_rows": ("real",), "sheet_layouts": 1, "sheet_side": 20}
    plain = _sheet_size(world)
    assert {name: _sheet_size(world, **{name: value}) for name, value in sizes.items()} == {
        "sheet_rows": (plain[0], plain[1] - (16 + sheet.MARGIN)),
        "sheet_layouts": (plain[0] - (16 + sheet.MARGIN), plain[1]),
        "sheet_side": (plain[0] + 2 * 4, plain[1] + 3 * 4),
    }
    for name, value in (("num_layouts", 2), ("num_failures", 1), ("max_side", 16)):
        changed = _page(world, **{name: value})
        failures = value if name == "num_failures" else PARAMS.num_failures
        assert changed.count('class="card"') == failures * len(PARAMS.rows)
        uris = set(re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", changed))
        longest = max(max(Image.open(io.BytesIO(base64.b64decode(uri))).size) for uri in uris)
        assert longest == (16 if name == "max_side" else 40)
    assert {"rows", "num_layouts", "num_failures", "max_side", *sizes} == report.Params.model_fields.keys()


def test_curves_leave_out_the_clock_and_gaps() -> None:
    log = pd.DataFrame({"step": [0, 10, 20], "seconds": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "gate": [0.0, None, None]})
    (curve,) = figures.curves(log)
    assert (curve.name, curve.final, curve.low, curve.high, curve.last) == ("loss", "1", "1", "3", "20")
    assert curve.path == "M0.0,0.0 150.0,60.0 300.0,120.0"


def test_a_curve_begins_at_the_left_whatever_its_first_step_and_of_one_step_alone_stays_there() -> None:
    values = {"loss": [3.0, 2.0, 1.0]}
    (curve,) = figures.curves(pd.DataFrame({"step": [10, 20, 30], **values}))
    assert (curve.path, curve.first, curve.last) == ("M0.0,0.0 150.0,60.0 300.0,120.0", "10", "30")
    (curve,) = figures.curves(pd.DataFrame({"step": [5, 5, 5], **values}))
    assert curve.path == "M0.0,0.0 0.0,60.0 0.0,120.0"


def test_a_column_of_two_values_is_a_curve_of_one_none_and_a_level_one_lies_at_the_bottom() -> None:
    log = pd.DataFrame({"loss": [2.0, 2.0], "single": [1.0, None], "words": ["a", "b"]})
    (curve,) = figures.curves(log)
    assert curve == ("loss", "M0.0,120.0 300.0,120.0", "0", "1", "2", "2", "2")


def test_a_mask_is_outlined_where_it_is(finished: Path) -> None:
    truth = ground_truth.load(finished / "images.parquet", finished / "annotated.parquet")
    layout = from_tables.from_tables(truth.images, truth.instances)[0]
    (path,) = re.findall(r'd="([^"]*)"', html.overlay(layout.instances))
    knots_K2 = np.array([float(number) for number in re.findall(r"[\d.]+", path)]).reshape(-1, 2)
    edges = [*knots_K2.min(0), *knots_K2.max(0)]  # columns 2 to 12 of 24, rows 4 to 12 of 40
    assert edges == pytest.approx([2 / 24, 4 / 40, 12 / 24, 12 / 40], abs=0.5 / 40)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_the_page_opens_in_a_browser_without_a_script_error_and_asks_nobody(
    world: Path, width: int, scheme: Any
) -> None:
    _run(world)
    faults: list[str] = []
    with browser.opened(width, 1200, color_scheme=scheme) as tab:
        hosts = browser.asked_of(tab)
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("console", lambda line: faults.append(line.text))
        tab.goto((world / "report.html").as_uri(), wait_until="load")
        assert tab.locator("#count").inner_text() == "2"  # the script ran: only the first drawn row's cards
        assert tab.locator("article.card").count() == 6
        tab.locator("article.card:visible").first.click()
        tab.get_by_role("button", name="next").click()
        tab.screenshot(path=world / f"{width}-{scheme}.png")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert (hosts, faults) == (set(), [])


def test_the_top_says_when_at_which_commit_and_with_which_values(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    monkeypatch.chdir(clone)
    assert report_page.changed_values("train: {steps: 1}") == []  # no repository
    (clone / "params.yaml").write_text("train: {steps: 100, rate: 0.1}\nrows: {}\n")
    author = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "x"]):
        subprocess.run(["git", *words], check=True)
    (clone / "params.yaml").write_text("train: {steps: 5, rate: 0.1}\nrows: {box: {}}\n")
    changed = report_page.changed_values((clone / "params.yaml").read_text())
    assert changed == [("train.steps", "100", "5"), ("rows", "{}", "-"), ("rows.box", "-", "{}")]
    _run(world)
    top = (world / "report.html").read_text().partition("</header>")[0]
    assert f"Written on {dt.datetime.now(dt.UTC):%d %B %Y}" in top
    assert re.search(r"[0-9a-f]{40} with uncommitted changes", top)
    assert "<code>train.steps</code> 5 instead of 100" in top


def test_without_git_the_commit_is_unknown_and_no_value_is_said_to_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    usual = os.environ["PATH"]
    for path in (str(tmp_path), usual):  # no Git at all; a folder that is in no repository
        monkeypatch.setenv("PATH", path)
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
        assert report_page.commit() == "unknown"
        assert report_page.changed_values("a: 1") == []
