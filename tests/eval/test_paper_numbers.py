"""The cells of the paper and ours by hand: verdicts at the ends of bands, means over pictures, costs, suspicions."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from eval import paper, self_test
from eval.benchmarks.published import CELLS, PaperCell
from eval.paper import PaperMetric, PaperRow
from eval.scoring.columns import SCORES
from instdiff.files import tables
from instdiff.layouts.formats import RELEASED


def cell(metric: str | None = "box_ap", band: tuple[float, float] | None = (30.0, 40.0), **more: Any) -> PaperCell:
    return PaperCell(
        "1", "theirs", more.pop("column", "AP box"), metric, 35.0, band, (("ours", "plain", "box"),), **more
    )


def metric(value: float, low: float = 0.0, high: float = 1.0) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def row(metrics: dict[str, Any], instances: list[dict[str, Any]] | None = None, **source: Any) -> PaperRow:
    settings = {"settings": {"num_resamples": 20, "seed": 0}, "drawn_by": None}
    return PaperRow("plain", "box", metrics, pd.DataFrame(instances or []), settings | source)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (29.9, "below the band"), (30.0, "in the band"), (40.0, "in the band"), (40.1, "above the band"),
    ],
)  # fmt: skip
def test_both_ends_of_a_band_lie_within_it(value: float, expected: str) -> None:
    assert paper.verdict(cell(), PaperMetric(value, 0, 100), comparable=True) == expected
    assert paper.verdict(cell(), PaperMetric(value, 0, 100), comparable=False).endswith("not comparable")
    assert paper.verdict(cell(), None, comparable=True) == "not measured"
    assert paper.verdict(cell(metric=None), None, comparable=True) == "the paper does not define it"


@pytest.mark.parametrize(
    ("low", "high", "inside"), [(35.0, 36.0, True), (34.0, 35.0, True), (35.1, 36.0, False), (30.0, 34.9, False)]
)
def test_without_a_band_the_papers_value_lies_in_our_interval_or_outside(low: float, high: float, inside: bool) -> None:
    words = paper.verdict(cell(band=None), PaperMetric(35.0, low, high), comparable=True)
    assert words.endswith("in our interval") == inside and words.endswith("outside our interval") != inside


def test_our_value_of_a_cell_is_in_its_columns_unit_and_of_every_reading_that_was_drawn() -> None:
    scored = row({"box_ap": metric(0.375, 0.25, 0.5), "fid": metric(12.5, 12.0, 13.0)})
    assert paper.of_cell(cell(), scored) == (37.5, 25.0, 50.0)
    assert paper.of_cell(cell("fid", column="FID"), scored) == (12.5, 12.0, 13.0)
    assert paper.of_cell(cell("mask_ap", column="AP mask"), scored) is None
    assert paper.of_cell(cell(None), scored) is None
    every = paper.lines({("plain", "box"): scored}, comparable=True)
    named = [line for line in every if line.row]
    drawn = [each for each in CELLS for _, *place in each.rows if tuple(place) == ("plain", "box")]
    assert [line.cell for line in named] == drawn
    assert {line.row for line in named} == {"plain/box"}
    assert [line.cell for line in every if not line.row] == [each for each in CELLS if not each.rows]
    records = paper.numbers(every)
    assert len(records) == len(every)
    for line in named:
        record = records[f"{line.cell.method} | {line.cell.column} | {line.reading}"]
        assert ("value" in record) == (line.ours is not None)
        assert (record["published"], record["verdict"]) == (line.cell.published, line.verdict)


def test_the_references_mean_is_of_the_first_instances_of_a_picture_and_then_of_pictures() -> None:
    """Right are two of three of picture a, none of b and c; the last of d comes too late, and c has no CLIP score."""
    asked = [("a", 0, "red", "red"), ("a", 1, "red", "red"), ("a", 2, "red", "blue"), ("b", 0, "blue", "red")]
    late = RELEASED.max_instances
    asked += [("d", late - 1, "red", "red"), ("d", late, "red", "blue")]
    instances = [
        {"key": key, "index": index, "colour": colour, "judged_colour": judged, "clip_local": clip}
        for (key, index, colour, judged), clip in zip(asked, (0.1, 0.2, 0.3, 0.5, 0.7, 0.9), strict=True)
    ]
    instances.append({"key": "c", "index": 0, "colour": "red", "judged_colour": "blue", "clip_local": None})
    by_colour = paper.per_picture("colour_accuracy", row({}, instances))
    assert by_colour["value"] == pytest.approx((2 / 3 + 0 + 1 + 0) / 4) and by_colour["n"] == 4
    by_clip = paper.per_picture("clip_local", row({}, instances))
    assert by_clip["value"] == pytest.approx((0.2 + 0.5 + 0.7) / 3) and by_clip["n"] == 3
    whole = {"colour_accuracy": metric(0.5, 0.5, 0.5)}
    of_pictures = paper.of_cell(cell("colour_accuracy", column="colour", per_picture=True), row(whole, instances))
    assert of_pictures is not None and of_pictures.value == pytest.approx(100 * by_colour["value"])
    assert paper.of_cell(cell("colour_accuracy", column="colour"), row(whole, instances)) == (50, 50, 50)


def test_a_rows_hours_are_those_of_its_stages_and_its_price_that_of_all_gpus() -> None:
    seconds = {"generate@plain-box": 3600.0, "score@plain-box": 1800.0, "detect@colour-a-b": 36.0, "truth": 9.0}
    seconds |= {"train@plain-box": 5.0, "generate": 7.0}
    priced = paper.costs(seconds, paper.Params(gpu_hour=2.5, gpus=4, rows={}))
    assert priced == {
        "plain/box": {"generate": 3600.0, "score": 1800.0, "hours": 1.5, "price": 15.0},
        "colour/a-b": {"detect": 36.0, "hours": 0.01, "price": pytest.approx(0.1)},
    }
    free = paper.costs(seconds, paper.Params(gpu_hour=None, gpus=4, rows={}))
    assert all("price" not in own for own in free.values())


@pytest.mark.parametrize(
    ("name", "box", "mask", "alarmed"),
    [
        ("box", 0.49949, 0.40751, True),
        ("box", 0.4980, 0.408, False),
        ("box", 0.499, 0.409, False),
        ("real", 0.499, 0.408, False),
    ],
)
def test_a_drawn_row_with_the_score_of_the_real_pictures_is_suspicious(
    name: str, box: float, mask: float, alarmed: bool
) -> None:
    scored = row({"box_ap": metric(box), "mask_ap": metric(mask)})
    sentences = paper.alarms({("plain", name): scored})
    assert [sentence.startswith(f"plain/{name} has box AP 49.9 and mask AP 40.8") for sentence in sentences] == (
        [True] if alarmed else []
    )


def test_rows_of_two_networks_are_suspicious_and_those_of_none_are_not() -> None:
    drawn = [row({}, drawn_by=None), *(row({}, drawn_by={"weights": {"unet": name}}) for name in ("x", "x", "y"))]
    for count, alarmed in ((3, False), (4, True)):
        by_name = {("plain", f"r{place}"): each for place, each in enumerate(drawn[:count])}
        assert (paper.alarms(by_name) == ["The rows were not all drawn by the same weights."]) == alarmed


PRINTED = """
real images: AP box 50.2, AP50 box 66.7, AR box 61.0, AP mask 40.8, AP50 mask 63.5, AR mask 58.0
InstanceDiffusion, boxes: AP box 38.8, AP50 box 55.4, AR box 52.9, FID 23.9
InstanceDiffusion, masks: AP mask 27.1, AP50 mask 50.0, AR mask 38.1, FID 25.5, IoU 61.6
InstanceDiffusion, points: PiM point 81.1, FID 27.5
InstanceDiffusion, scribbles: PiM scribble 72.4, FID 27.3
InstanceDiffusion (hybrid): AP box 44.6, AP50 box 59.6, AR box 58.8, FID 25.5, PiM point 86.0
InstanceDiffusion (hybrid), scribbles: PiM scribble 82.9, FID 26.4
InstanceDiffusion, colours: colour 54.4, CLIP .250
InstanceDiffusion, textures: texture 26.8, CLIP .225
"""  # transcribed from the paper a second time, apart from the code


def test_the_papers_values_are_those_that_it_prints() -> None:
    printed = []
    for line in PRINTED.strip().splitlines():
        method, _, cells = line.rpartition(": ")
        for cell in cells.split(", "):
            column, _, value = cell.rpartition(" ")
            printed.append((method, column, float(value)))
    assert sorted(printed) == sorted((each.method, each.column, each.published) for each in CELLS)


MEASURED = {  # by others, with the same weights
    ("real images", "AP box"): 48.4,
    ("real images", "AP50 box"): 65.2,
    ("InstanceDiffusion, boxes", "AP box"): 40.1,
    ("InstanceDiffusion, boxes", "AP50 box"): 57.2,
    ("InstanceDiffusion, boxes", "AR box"): 53.2,
}


def test_a_band_of_precision_reaches_beyond_the_paper_and_others_by_two_and_of_real_pictures_by_one() -> None:
    for cell in CELLS:
        if cell.band is not None and cell.column.startswith("A"):
            margin = 1 if cell.method == "real images" else 2
            values = {cell.published, MEASURED.get((cell.method, cell.column), cell.published)}
            assert cell.band == pytest.approx((min(values) - margin, max(values) + margin)), cell


def test_the_papers_value_lies_in_its_own_band() -> None:
    banded = [each for each in CELLS if each.band is not None]
    assert banded
    for each in banded:
        assert each.band is not None and each.band[0] <= each.published <= each.band[1]


def test_a_detector_is_trusted_within_a_band_about_what_its_authors_publish() -> None:
    detect: Any = None  # nothing is detected here
    params = self_test.Params.model_construct(expected={"box_ap": 0.5, "mask_ap": 0.4}, within=0.0625, detect=detect)
    assert self_test.verdict({"box_ap": 0.5625, "mask_ap": 0.4}, params) is None
    assert self_test.verdict({"box_ap": 0.4375, "mask_ap": 0.4}, params) is None
    assert self_test.verdict({"box_ap": 0.5635, "mask_ap": 0.3}, params) == (
        "box_ap 56.4, not 50.0 within 6.25; mask_ap 30.0, not 40.0 within 6.25"
    )


PARAMS = paper.Params(gpu_hour=2.0, gpus=1, rows={})


def tabled(folder: Path, info: dict[str, object]) -> tuple[dict[str, float], dict[str, Any], str]:
    """What the stage counts, its numbers and its page, from the scores in the folder."""
    (folder / "weights" / "ours").mkdir(parents=True, exist_ok=True)
    (folder / "weights" / "ours" / "recipe.json").write_text('{"params": {"files": {"net.pth": "of the net"}}}')
    contents = {"truth": {"info": info}, "self_test": {"measured": {"box_ap": 0.5}, "expected": {"box_ap": 0.5}}}
    for name, content in (contents | {"seconds": {"score@plain-box": 7200.0}}).items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    paths = {name: folder / f"{name}.json" for name in ("truth", "self_test", "seconds", "table")}
    places = paths | {"scores": folder / "scores", "weights": folder / "weights", "page": folder / "page.html"}
    counts = paper.run(**places, params=PARAMS)
    return counts, json.loads((folder / "table.json").read_text()), (folder / "page.html").read_text()


def test_rows_are_tabled_from_their_folders_and_compare_only_where_the_truth_says_so(tmp_path: Path) -> None:
    place = tmp_path / "scores" / "plain" / "box"
    place.mkdir(parents=True)
    for name, content in (
        ("metrics", {"box_ap": metric(0.99, 0.98, 1.0)}),
        ("provenance", row({}).source | {"pictures": "of the pictures", "detections": "of the detections"}),
    ):
        (place / f"{name}.json").write_text(json.dumps(content))
    named = {"row": "box", "key": "a", "index": 3, "group": "mixed", "category": "dog"}
    instance = dict.fromkeys(SCORES.names) | named
    tables.write(place / "instances.parquet", [instance], SCORES)
    (read,) = paper.read(tmp_path / "scores").values()
    assert (read.truth, read.row, read.instances[["key", "index"]].to_numpy().tolist()) == ("plain", "box", [["a", 3]])
    verdicts = {}
    for comparable in (False, True):
        counts, numbers, page = tabled(tmp_path, {"sources": {}, "comparable": comparable})
        measured = {number["verdict"] for number in numbers.values() if number.get("value") is not None}
        verdicts[comparable] = (measured, counts["outside_the_band"])
        assert counts["rows"] == 1 and counts["cells"] == len(numbers) > 1
        for word in ("plain/box", "net.pth", "of the net", "of the pictures", "<td>2.00</td><td>4.00</td>"):
            assert word in page
    assert verdicts[False] == ({"a part of the benchmark: not comparable"}, 0)
    assert verdicts[True] == ({"above the band"}, 1)


def test_without_a_row_there_is_no_table(tmp_path: Path) -> None:
    assert paper.read(tmp_path) == {}
    with pytest.raises(ValueError, match="scores: no row was scored"):
        tabled(tmp_path, {"comparable": True})
