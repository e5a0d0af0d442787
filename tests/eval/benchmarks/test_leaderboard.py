"""The leaderboard shows what was measured and, in grey and with its source, what was published; it needs no network."""

import json
import shutil
from pathlib import Path

import browser
import pytest

from eval.benchmarks import leaderboard, registry


def _result(folder: Path, success: float, **source: object) -> None:
    folder.mkdir(parents=True)
    metric = {"value": success, "n": 5, "low": success - 0.1, "high": success + 0.1, "better": "higher"}
    beside = {"value": 0.75, "n": 4, "low": 0.7, "high": 0.8}
    (folder / "metrics.json").write_text(json.dumps({"success": metric | {"reference": beside}}))
    (folder / "provenance.json").write_text(json.dumps({"benchmark": "coco-mig", "num_pictures": 2} | source))


def test_every_published_number_names_a_measure_and_stands_in_the_scale_of_ours() -> None:
    for benchmark in registry.every():
        for number in benchmark.published:
            assert number.measure.partition("/")[0] in benchmark.measures
            assert 0 < number.value < 1
            assert number.source


PRINTED = """
coco-mig: success miou
InstanceDiffusion .51 .46, ReCo .55 .49, MIGC .66 .56, GLIGEN .30 .27, ROICtrl .73 .66, InstanceDiffusion .603 .548,
MIGC .664 .570, EliGen .641 .592, ContextGen .697 .651, ROICtrl .633 .553, DEIG .723 .626

coco-position: success pictures miou nearest_ap
InstanceDiffusion .878 .655 .781 .572, ConsistCompose .926 .761 .853 .709, MIGC++ .868 .634 .749 .483,
GLIGEN .826 .521 .690 .405

deig: human_maa object_maa miou
InstanceDiffusion .25 .33 .75, DEIG .75 .44 .79, ROICtrl .31 .33 .71, MIGC .22 .36 .72

layoutsam: spatial colour texture shape
InstanceDiffusion .864 .714 .767 .754, ContextGen .940 .874 .893 .884, EliGen .941 .838 .873 .870,
CreatiLayout .936 .774 .796 .789

overlaybench: miou/split/simple o_miou/split/simple sr_e/split/simple sr_r/split/simple
InstanceDiffusion .712 .500 .777 .875

overlaybench: miou/split/regular o_miou/split/regular sr_e/split/regular sr_r/split/regular
InstanceDiffusion .601 .342 .725 .834

overlaybench: miou/split/complex o_miou/split/complex sr_e/split/complex sr_r/split/complex
InstanceDiffusion .537 .256 .660 .803, Laytrol .615 .378 .728 .861, InstanceAssemble .612 .340 .602 .840,
CreatiLayout-FLUX .545 .290 .697 .865

layoutbench-coco: ap/skill/number ap/skill/position ap/skill/size ap/skill/combination
IterInpaint .314 .391 .335 .441, GLIGEN .307 .364 .333 .363, ReCo .309 .389 .241 .187, ControlNet .092 .153 .108 .064

geneval: correct/tag/colors correct/tag/color_attr
SDXL .85 .23, SD1.5 .76 .06
"""  # transcribed from the papers and pages a second time, apart from the code


def test_published_numbers_are_those_that_the_papers_and_pages_print() -> None:
    printed = []
    for block in PRINTED.strip().split("\n\n"):
        head, _, rows = block.partition("\n")
        name, _, measures = head.partition(": ")
        for model, *values in map(str.split, rows.replace("\n", " ").split(",")):
            printed += [(name, model, *each) for each in zip(measures.split(), map(float, values), strict=True)]
    ours = [
        (benchmark.name, *number[:2], round(number.value, 6))
        for benchmark in registry.every()
        for number in benchmark.published
    ]
    assert sorted(printed) == sorted(ours)


SHOWN = {
    "coco-mig": "success miou pictures",
    "coco-position": "success pictures miou nearest_ap",
    "deig": "human_maa object_maa miou",
    "layoutsam": "spatial colour texture shape",
    "denselayout": "spatial colour texture shape",
    "overlaybench": "miou o_miou sr_e sr_r",
    "layoutbench-coco": "ap",
    "geneval": "correct",
    "t2i-compbench": "binding",
    "sacap": "spatial colour texture shape",
    "scenes": "success miou fits o_miou",
}


def test_a_table_shows_the_numbers_of_its_benchmark_and_none_that_only_explain_them() -> None:
    columns = {benchmark.name: leaderboard.columns(benchmark) for benchmark in registry.every()}
    shown = {name: " ".join(column.name for column in own if not column.part) for name, own in columns.items()}
    assert shown == {name: f"{own} clip" for name, own in SHOWN.items()}


def test_rows_sort_by_a_column_and_the_page_fits_a_phone(tmp_path: Path) -> None:
    _result(tmp_path / "coco-mig" / "ours & theirs", 0.6, missing=["7"])
    page = leaderboard.render(registry.every(), leaderboard.results(tmp_path))
    assert "http" not in page
    (tmp_path / "page.html").write_text(page)
    with browser.opened(390, 800) as tab:
        tab.goto((tmp_path / "page.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        table = tab.locator("table").first
        first = table.locator("tbody tr").first
        text = first.inner_text()
        for part in ("ours & theirs", "1 pictures, 1 missing", "0.600", "0.500 \u2013 0.700", "its own way: 0.750"):
            assert part in text
        table.locator("thead button").nth(1).click()
        values = [float(text) for text in table.locator("tbody td:nth-child(2) b").all_inner_texts()]
        assert values == sorted(values, reverse=True)
        assert values[0] == 0.73  # ROICtrl's own paper
        assert "third-party digest" in first.inner_text()
        grey, dark = (
            tab.evaluate(f"getComputedStyle(document.querySelector('tr.{kind} td')).color")
            for kind in ("published", "measured")
        )
        assert grey != dark
        table.locator("thead button").nth(1).click()
        assert "GLIGEN" in first.inner_text()


def test_a_benchmarks_section_has_its_own_results_first_and_the_columns_of_which_there_are_numbers(
    tmp_path: Path,
) -> None:
    _result(tmp_path / "coco-mig" / "row-of-mig", 0.6)
    _result(tmp_path / "deig" / "row-of-deig", 0.6, benchmark="deig")
    deig, mig = sorted(leaderboard.results(tmp_path), key=lambda result: result.row)
    assert (deig.source["benchmark"], mig.source["benchmark"]) == ("deig", "coco-mig")
    page = leaderboard.render(registry.every(), [deig, mig])
    assert [page.count(name) for name in ("row-of-mig", "row-of-deig")] == [1, 1]
    section = leaderboard.section(registry.load("coco-mig"), [mig])
    assert [column.name for column in section["columns"]] == ["success", "miou"]
    stated = registry.load("coco-mig").published
    models = list(dict.fromkeys((number.model, number.source) for number in stated))
    assert [(row.measured, row.model) for row in section["rows"]] == [
        (True, "row-of-mig"),
        *((False, model) for model, _ in models),
    ]
    assert sum(len(row.cells) for row in section["rows"]) == 1 + len(stated)
    split = leaderboard.section(registry.load("overlaybench"), [])["columns"]
    assert [(column.name, column.label, column.part) for column in split[:4]] == [
        ("miou/split/simple", "mIoU", "simple"),
        ("miou/split/regular", "mIoU", "regular"),
        ("miou/split/complex", "mIoU", "complex"),
        ("o_miou/split/simple", "O-mIoU", "simple"),
    ]


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    _result(tmp_path / "coco-mig" / "a", 0.5)
    (tmp_path / "coco-mig" / "a" / "metrics.json").write_text('{"success": 0.5}')
    with pytest.raises(ValueError, match=r"a/metrics\.json: not the result of a benchmark"):
        leaderboard.results(tmp_path)
    _result(tmp_path / "deig" / "b", 0.5)
    shutil.rmtree(tmp_path / "coco-mig")
    for provenance in ("[]", '{"row": "b"}', '{"benchmark": 5}'):
        (tmp_path / "deig" / "b" / "provenance.json").write_text(provenance)
        with pytest.raises(ValueError, match=r"b/metrics\.json: not the result of a benchmark"):
            leaderboard.results(tmp_path)
