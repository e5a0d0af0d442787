"""The report: rows that cannot be compared are refused, what is suspicious is said, and the page opens in a browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import eval_world
import numpy as np
import pandas as pd
import pytest
import yaml
from test_score import EYES
from test_score import PARAMS as SCORE

from eval import detect, report
from eval.inputs import detections, ground_truth, pictures
from eval.pages import figures, report_page
from eval.scoring import headline, score_row
from eval.scoring import row as row_of_table
from instdiff import provenance, tables
from instdiff.layouts import from_tables
from instdiff.schema import Box, Instance
from instdiff.tables import LEDGER

ROOT = Path(__file__).parents[1]
PARAMS = report.Params(
    rows={"real": "upper", "none": "control", "box": "boxes"}, num_layouts=3, num_failures=2, max_side=64, sheet_side=16
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRAWN = {"none": dict.fromkeys((("a", 0), ("c", 0), ("c", 1))), "box": {("b", 0): None}}


def _scored(world: Path, row: str, folder: Path) -> None:
    truth = ground_truth.load(world / "images.parquet", world / "annotated.parquet")
    judged = pictures.find(folder, truth.images, None)
    found_at = world / "detections" / f"{row}.json"
    detect.write(found_at, eval_world.PixelDetector(), "abc", judged, detect.Params(batch_size=4, square=None))
    inputs = row_of_table.Inputs(
        truth, judged, pictures.find(world / "real", truth.images, None), detections.read(found_at, judged.sizes)
    )
    scored = score_row.score(row, row_of_table.checked(row, inputs), EYES, SCORE)
    score_row.write(world / "scores" / row, scored, row_of_table.sources(row, inputs, "judge", SCORE))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows scored, a training log, a ledger and counts: all that the stage reads."""
    world = tmp_path_factory.mktemp("report")
    eval_world.write(world)
    _scored(world, "real", world / "real")
    for row, left_out in DRAWN.items():
        eval_world.draw(world / "generated" / row, dict(left_out), background=90)
        provenance.write(world / "generated" / row, [], weights={"unet": "hash-of-the-unet"})
        _scored(world, row, world / "generated" / row)
    (world / "instance").mkdir()
    (world / "instance" / "log.csv").write_text(
        "step,loss,lr,seconds,gate\n0,0.5,0.1,0,0\n10,0.3,0.1,1,0.2\n20,0.2,0,2,\n"
    )
    ledger = [{"key": "x", "index": 0, "reason": "too_small", "detail": "<b>&"}] * 3
    tables.write(world / "ledger" / "annotate-val.parquet", pd.DataFrame(ledger), LEDGER)
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
        instance=world / "instance",
        metrics=world / "metrics.json",
        samples=world / "samples.png",
        report=world / "report.html",
        params=params,
    )


def _alter(path: Path, **changed: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_a_sheet_holds_each_row_below_the_other_and_boxes_on_the_first_alone() -> None:
    black = np.zeros((8, 8, 3), np.uint8)
    boxed = [Instance(phrase="a", box=Box(0.0, 0.0, 0.5, 0.5))]
    sheet = np.asarray(figures.sheet({"real": [black], "box": [black]}, [boxed], side=16))
    first, second = (sheet[figures.MARGIN + down * 20 :, figures.LABEL :][:16, :16] for down in (0, 1))
    assert first[0, 0].tolist() == list(figures.BOX)
    assert first[1:7, 1:7].max() == 0
    assert second.max() == 0


def test_the_headline_table_has_its_exact_shape(world: Path) -> None:
    assert _run(world)["alarms"] == 0
    metrics = json.loads((world / "metrics.json").read_text())
    assert list(metrics) == ["real", "none", "box"]
    for row in metrics.values():
        assert tuple(row) == tuple(headline.HEADLINE)
        assert all(list(metric) == ["value", "n", "low", "high", "better"] for metric in row.values())


def test_the_default_rows_are_those_the_graph_scores() -> None:
    params = yaml.safe_load((ROOT / "configs" / "report" / "default.yaml").read_text())
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    evaluated = next(one["evaluated"] for one in graph["vars"] if "evaluated" in one)
    assert list(params["rows"]) == list(evaluated)


def test_a_row_that_was_not_scored_is_named(world: Path) -> None:
    with pytest.raises(ValueError, match="row 'mask' was not scored"):
        _run(world, PARAMS.model_copy(update={"rows": PARAMS.rows | {"mask": "masks"}}))
    assert not (world / "metrics.json").exists()


@pytest.mark.parametrize("what", ["annotated", "images", "real_pictures", "judge", "settings"])
def test_rows_judged_on_or_by_something_else_are_refused(world: Path, what: str) -> None:
    _alter(world / "scores" / "box" / "provenance.json", **{what: "other"})
    with pytest.raises(ValueError, match=f"'real' and 'box' cannot be compared: their {what} differ"):
        _run(world)


def test_rows_of_two_detectors_are_refused(world: Path) -> None:
    _alter(world / "scores" / "box" / "provenance.json", detected_by={"detector": "other"})
    with pytest.raises(ValueError, match="detectors differ"):
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


def test_a_table_without_the_real_row_raises_an_alarm(world: Path) -> None:
    rows = report.read(world / "scores", {"none": "", "box": ""})
    assert report.alarms(rows) == [
        "There is no real row: nothing says how far the detector and the judge can be trusted."
    ]


class _Links(HTMLParser):
    """What a page would load, and the ids it defines and uses."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.used: list[str] = []
        self.defined: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        target = given.get("href", given.get("src", ""))
        (self.used if target.startswith("#") else self.loaded).extend([target] if target else [])
        self.defined += [given["id"]] if "id" in given else []


def test_the_page_loads_nothing_and_every_reference_in_it_is_defined(world: Path) -> None:
    _run(world)
    links = _Links()
    text = (world / "report.html").read_text()
    links.feed(text)
    assert links.loaded and all(one.startswith("data:image/webp;base64,") for one in links.loaded)
    assert len(links.defined) == len(set(links.defined))
    assert {one[1:] for one in links.used} <= set(links.defined)
    assert "url(" not in text and "@import" not in text and "http" not in re.sub(r"base64,[^\"]*", "", text)


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
    row = report.read(finished / "scores", {"box": ""})[0]
    first = report_page.worst(row.instances, 1).iloc[0]
    assert (first["key"], first["index"], first["place"]) == ("b", 0, 0)
    assert report_page.faults(first.to_dict())[:2] == ["not found", "wrong colour"]


def test_curves_leave_out_the_clock_and_gaps() -> None:
    log = pd.DataFrame({"step": [0, 10, 20], "seconds": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "gate": [0.0, None, None]})
    (curve,) = figures.curves(log)
    assert (curve.name, curve.final, curve.low, curve.high, curve.last) == ("loss", "1", "1", "3", "20")
    assert curve.path == "M0.0,0.0 150.0,60.0 300.0,120.0"


def test_a_mask_is_outlined_where_it_is(finished: Path) -> None:
    truth = ground_truth.load(finished / "images.parquet", finished / "annotated.parquet")
    layout = from_tables.from_tables(truth.images, truth.instances)[0]  # a square of pixels 2 to 12 of 32
    (path,) = re.findall(r'd="([^"]*)"', figures.overlay(layout.instances))
    numbers = [float(one) for one in re.findall(r"[\d.]+", path)]
    assert min(numbers) == pytest.approx(2 / 32, abs=0.5 / 32) and max(numbers) == pytest.approx(12 / 32, abs=0.5 / 32)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; CI installs it")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (500, "light")])
def test_the_page_opens_in_a_browser_without_a_script_error(world: Path, width: int, scheme: str) -> None:
    _run(world)
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--disable-extensions", "--disable-background-networking", f"--user-data-dir={world / 'profile'}"]
    options += [f"--window-size={width},1200", f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"]
    shown = subprocess.run(
        [str(CHROMIUM), *options, "--enable-logging=stderr", "--dump-dom", (world / "report.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "CONSOLE" not in shown.stderr
    assert re.search(r'<output id="count">2</output>', shown.stdout)  # the script ran: only the first drawn row's cards
    assert shown.stdout.count('<article class="card"') == 6
