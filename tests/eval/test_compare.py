"""`instdiff compare`: paired differences by hand, what changed most, and what cannot be compared."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import eval_world
import numpy as np
import pandas as pd
import pytest
from eval_world import JUDGES, PARAMS, many
from PIL import Image

from eval import compare
from eval.inputs import detections, ground_truth, pictures
from eval.scoring import difference, paired, score_row
from eval.scoring import row as row_of_table
from eval.scoring.columns import SCORES
from instdiff import __main__ as command
from instdiff.files import tables
from instdiff.layouts import masks

NOTHING = paired.of_pictures((), {}).assign(seed=0)
MISSING = {("b", 0): None, ("d", 0): None}


def _row(world: Path, folder: Path, name: str, repainted: dict[tuple[str, int], None], seed: int = 0) -> Path:
    """The pictures with these instances left out, scored, in folder/name with the pictures beside the scores."""
    folder_of_pictures = world / f"drawn-{folder.name}-{name}"
    eval_world.draw(folder_of_pictures, dict(repainted), 90 + seed)
    truth = ground_truth.load(world / "images.parquet", world / "annotated.parquet")
    judged = pictures.find(folder_of_pictures, truth.images, None)
    eval_world.detected(folder_of_pictures / "found.json", judged)
    inputs = row_of_table.Inputs(truth, judged, None, detections.read(folder_of_pictures / "found.json", judged.sizes))
    scored = score_row.score(name, inputs, JUDGES, PARAMS)
    score_row.write(folder / name, scored, row_of_table.sources(name, inputs, "judge", PARAMS))
    (folder_of_pictures / "found.json").unlink()
    return folder_of_pictures


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("compare")
    eval_world.write(world)
    _row(world, world / "a", "box", MISSING)
    _row(world, world / "b", "box", {})
    return world


def _differences(sides: Path, a: str = "a", b: str = "b") -> dict[str, difference.Difference]:
    side_a, side_b = (difference.read([sides / name / "box"]) for name in (a, b))
    return {metric.name: metric for metric in difference.of_metrics(side_a, side_b, num_resamples=200, seed=0)}


def test_the_difference_is_that_of_the_means_of_the_same_instances(sides: Path) -> None:
    differences = _differences(sides)
    assert differences["box_miou"].value == pytest.approx(2 / 7)  # two of seven were left out in A
    assert (differences["box_miou"].a, differences["box_miou"].b) == pytest.approx((5 / 7, 1.0))
    assert differences["box_miou"].paired
    assert differences["box_ap"].paired
    assert not differences["box_ap/category/square"].paired
    assert differences["box_ap"].low <= differences["box_ap"].value <= differences["box_ap"].high


def test_average_precision_is_paired_by_what_it_counted_and_only_bounded_without(sides: Path) -> None:
    a, b = (difference.read([sides / name / "box"]) for name in ("a", "b"))
    paired = _differences(sides)["box_ap"]
    a.source["num_pictures"] = 5  # of something else
    bounded = {metric.name: metric for metric in difference.of_metrics(a, b, 200, 0)}["box_ap"]
    assert (paired.paired, bounded.paired) == (True, False)
    assert paired.value == bounded.value


def test_pairing_leaves_nothing_between_a_result_and_itself(sides: Path) -> None:
    for metric in _differences(sides, "a", "a").values():
        assert metric.value == 0
        assert not metric.certain
        assert (metric.low, metric.high) == (0, 0) or not metric.paired


def test_seeds_are_pooled_layout_by_layout_and_each_is_held_against_its_own(
    sides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lacks = {"a": ({("b", 0): None}, {("b", 0): None, ("d", 0): None}), "b": ({}, {("d", 0): None})}
    pictures = {}
    for side, seeds in lacks.items():
        pictures[side] = tmp_path / f"pictures-{side}"
        for number, lacking in enumerate(seeds, start=1):
            folder = _row(sides, tmp_path / side, f"scribble@{number}", lacking, seed=10 * number + ord(side))
            (pictures[side] / str(number)).parent.mkdir(exist_ok=True)
            folder.rename(pictures[side] / str(number))
    html = str(tmp_path / "page.html")
    compare.main([str(tmp_path / "a"), str(tmp_path / "b"), "--html", html, "--pictures", *map(str, pictures.values())])
    output = capsys.readouterr().out
    assert "row scribble" in output
    assert "means over 2 seeds; 1, 2 of A against 1, 2 of B" in " ".join(output.split())
    assert output.count("b 0 seed 1: square") == output.count("b 0 seed 2: square") == 1
    assert Path(html).read_text().count("data:image/webp") == 4
    a, b = (difference.read([tmp_path / side / f"scribble@{n}" for n in (1, 2)]) for side in ("a", "b"))
    differences = {metric.name: metric for metric in difference.of_metrics(a, b, 200, 0)}
    assert differences["box_miou"].value == pytest.approx(
        2 / 14
    )  # one of seven in each seed, and three of fourteen lacked
    assert (differences["box_miou"].a, differences["box_miou"].b) == pytest.approx((11 / 14, 13 / 14))
    alone = [
        difference.of_metrics(*(difference.read([tmp_path / side / f"scribble@{n}"]) for side in ("a", "b")), 200, 0)
        for n in (1, 2)
    ]
    by_seed = [{metric.name: metric for metric in metrics} for metrics in alone]
    for name in ("box_ap", "mask_miou"):
        assert differences[name].paired
        assert differences[name].value == pytest.approx(sum(seed[name].value for seed in by_seed) / 2)
    # the same instance is missing in both seeds of A: the seeds of a layout are no news to each other
    assert (differences["mask_miou"].low, differences["mask_miou"].high) == pytest.approx(
        (by_seed[0]["mask_miou"].low, by_seed[0]["mask_miou"].high)
    )
    assert differences["pim"].value == pytest.approx(differences["pim_scribble"].value)


def test_seeds_without_a_pair_or_that_are_one_are_refused(sides: Path) -> None:
    a, b = sides / "a" / "box", sides / "b" / "box"
    with pytest.raises(ValueError, match="two seeds judged the very same pictures"):
        difference.read([a, a])
    with pytest.raises(ValueError, match="have 2 and 1 seeds: each needs another"):
        difference.checked(difference.read([a, b]), difference.read([b]))
    rows_a, rows_b = compare._rows([("box@1", a, a)]), compare._rows([("box@2", b, b)])
    assert list(compare._paired(rows_a, rows_b)) == [("box", rows_a["box"], rows_b["box"])]


def test_seeds_that_were_judged_unlike_the_first_are_refused_by_what_differs(sides: Path, tmp_path: Path) -> None:
    first, second, odd = (
        Path(shutil.copytree(sides / side / "box", tmp_path / f"{n}")) for n, side in enumerate("abb")
    )
    source = json.loads((odd / "provenance.json").read_text())
    changed = {"judge": "another", "detected_by": {"detector": "another"}}
    (odd / "provenance.json").write_text(json.dumps(source | changed))
    for folders in ([first, odd], [first, second, odd]):
        with pytest.raises(ValueError, match=f"^{first} and {odd} are no seeds of one row: their judge differs$"):
            difference.read(folders)
    assert difference.read([first, second]).folders == (first, second)


def test_distances_of_seeds_are_averaged_draw_by_draw_where_all_have_as_many(sides: Path, tmp_path: Path) -> None:
    draws = {"fid": ([1.0, 2.0, 3.0], [3.0, 4.0, 8.0]), "kid": ([1.0, 2.0], [1.0, 2.0, 3.0]), "cmmd": ([1.0], None)}
    for place, side in enumerate("ab"):
        own = {name: np.array(values[place]) for name, values in draws.items() if values[place] is not None}
        folder = shutil.copytree(sides / side / "box", tmp_path / side)
        tables.write(folder / paired.RESAMPLED_FILE, paired.of_resampled(own), paired.RESAMPLED)
    resampled = difference.read([tmp_path / "a", tmp_path / "b"]).resampled
    assert {name: list(values) for name, values in resampled.items()} == {"fid": [2.0, 3.0, 5.5]}


def test_a_metric_of_one_side_alone_is_passed_over_and_one_without_an_instance_in_common_is_named(sides: Path) -> None:
    a, b = (difference.read([sides / name / "box"]) for name in ("a", "b"))
    names = [metric.name for metric in difference.of_metrics(a, b, 20, 0)]
    del b.metrics[names[0]]
    assert [metric.name for metric in difference.of_metrics(a, b, 20, 0)] == names[1:]
    left, right = (side.scores["index"] == 0 for side in (a, b))
    a, b = (
        side._replace(scores=side.scores.assign(mask_iou=side.scores["mask_iou"].where(counts)))
        for side, counts in ((a, left), (b, ~right))
    )
    with pytest.raises(ValueError, match="^mask_miou: no instance counts on both sides$"):
        difference.of_metrics(a, b, 20, 0)


def test_turning_the_sides_turns_the_sign(sides: Path) -> None:
    there, back = _differences(sides), _differences(sides, "b", "a")
    for name, series in there.items():
        assert (series.value, series.low, series.high) == pytest.approx(
            (-back[name].value, -back[name].high, -back[name].low), abs=1e-9
        )


def test_the_instances_that_changed_most_come_first_and_unchanged_ones_not_at_all(sides: Path) -> None:
    changed = difference.most_changed(*(difference.read([sides / name / "box"]) for name in ("a", "b")), count=5)
    assert [tuple(place) for place in changed[["key", "index"]].to_numpy()] == [("b", 0), ("d", 0)]
    assert changed["change"].tolist() == pytest.approx([3.0, 3.0])  # box IoU, mask IoU and PiM, from 0 to 1


def _held(changes: list[float | None]) -> tuple[difference.Side, difference.Side]:
    """Two sides whose instances differ by so much in box IoU; None: not judged on one side."""
    rows = [{"key": "a", "index": n, "seed": 0, "category": "bar", "box": [0, 0, 1, 1]} for n in range(len(changes))]
    table = pd.DataFrame(rows).reindex(columns=[*SCORES.names, "seed"])
    table_a, table_b = (table.assign(mask_iou=0.0, pim_point=0.0, box_iou=start) for start in (0.4, 0.4))
    table_b["box_iou"] = [None if change is None else 0.4 + change for change in changes]
    return tuple(difference.Side((Path(),), scores, {}, {}, NOTHING, {}) for scores in (table_a, table_b))  # type: ignore[return-value]


def test_the_greatest_change_comes_first_whichever_way_it_went_and_equals_in_the_order_of_the_table() -> None:
    sides = _held([0.1, -0.3, 0.0, 0.2, -0.2, None])
    changed = difference.most_changed(*sides, count=9)
    assert changed["index"].tolist() == [5, 1, 3, 4, 0]  # not judged counts as nothing found
    assert changed["change"].tolist() == pytest.approx([-0.4, -0.3, 0.2, -0.2, 0.1])
    assert difference.most_changed(*sides, count=2)["index"].tolist() == [5, 1]
    assert difference.most_changed(*sides, count=0).empty


@pytest.mark.parametrize(
    ("low", "high", "certain"), [(0.0, 0.1, False), (1e-12, 0.1, True), (-0.1, 0.0, False), (-0.1, -1e-12, True)]
)
def test_a_difference_is_certain_when_its_interval_leaves_out_nothing_at_all(
    low: float, high: float, certain: bool
) -> None:
    assert difference.Difference("box_ap", 0.5, 0.5, low, high, paired=True).certain == certain


def test_another_seed_and_another_number_of_draws_give_other_intervals_and_the_same_ones_the_same(
    tmp_path: Path,
) -> None:
    a, b = many(tmp_path / "one", 0.5), many(tmp_path / "other", 0.1)

    def ends(num_resamples: int, seed: int) -> list[tuple[float, float]]:
        differences = difference.of_metrics(a, b, num_resamples, seed)
        assert [metric.name for metric in differences] == ["box_miou", "box_ap"]
        assert all(metric.paired for metric in differences)
        return [(metric.low, metric.high) for metric in differences]

    assert ends(50, 0) == ends(50, 0)
    for others in (ends(50, 1), ends(51, 0)):
        assert all(here != there for here, there in zip(ends(50, 0), others, strict=True))


def test_rows_of_other_layouts_are_refused(sides: Path, tmp_path: Path) -> None:
    a, b = (difference.read([sides / name / "box"]) for name in ("a", "b"))
    with pytest.raises(ValueError, match="not of the same layouts"):
        difference.checked(a, b._replace(scores=b.scores.iloc[1:].reset_index(drop=True)))


def test_what_else_differs_is_said(sides: Path) -> None:
    a, b = (difference.read([sides / name / "box"]) for name in ("a", "b"))
    assert difference.checked(a, b) == []
    b.source["judge"] = "another"
    b.source["detected_by"]["detector"] = "another"
    assert difference.checked(a, b) == ["judge", "detector"]


def test_the_page_and_the_plots_hold_both_sides_of_what_changed(sides: Path, tmp_path: Path) -> None:
    html, plots = tmp_path / "page.html", tmp_path / "plots"
    folders = [str(sides / f"drawn-{side}-box") for side in ("a", "b")]
    command.main(
        [
            "compare",
            str(sides / "a"),
            str(sides / "b"),
            "--html",
            str(html),
            "--plots",
            str(plots),
            "--pictures",
            *folders,
        ]
    )
    text = html.read_text()
    assert text.count("data:image/webp") == 4
    assert "http" not in text
    assert [text.count(f'alt="{side}: ') for side in "AB"] == [2, 2]
    assert "more differ within bounds that hold 0</summary>" in text
    records = {record["metric"]: record for record in json.loads((plots / "box.json").read_text())}
    assert records["box_miou"]["difference"] == pytest.approx(2 / 7)
    assert sorted(path.name for path in (plots / "box").iterdir()) == ["00-b-0.png", "01-d-0.png"]
    for name, size, box in (("00-b-0", (20, 36), (2, 2, 12, 12)), ("01-d-0", (30, 32), (0, 2, 32, 10))):
        pixels = np.asarray(Image.open(plots / "box" / f"{name}.png"))
        assert pixels.shape[:2] == (size[0], 2 * size[1] + 4)  # A, a gap, B
        for picture in (pixels[:, : size[1]], pixels[:, size[1] + 4 :]):
            framed = masks.box_of((picture == compare.LINE).all(-1))
            edges = np.array(framed) * (size[1], size[0], size[1], size[0])
            assert edges == pytest.approx(np.array(box))


def of(name: str, value: float, low: float, high: float, paired: bool = True) -> difference.Difference:
    return difference.Difference(name, 0.0, value, low, high, paired)


def test_what_changed_comes_first_bounds_are_folded_and_what_is_the_same_is_counted() -> None:
    metrics = [
        of("same", 0, 0, 0),
        of("perhaps", 0.1, -0.1, 0.2),
        of("turned", 0, -0.1, 0.1),
        of("bounded", 0.1, -1, 1, paired=False),
        of("bounded-same", 0, -1, 1, paired=False),
        of("sure", 0.1, 0.05, 0.2),
        of("bounded-sure", -2, -3, -1, paired=False),
    ]
    listed = compare.sorted_differences(metrics)
    assert [metric.name for metric in listed.first] == ["sure", "bounded-sure", "perhaps", "turned"]
    assert [metric.name for metric in listed.folded] == ["bounded"]
    assert listed.same == 2


def test_a_result_beside_itself_is_a_sentence_and_no_table(sides: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["compare", str(sides / "a"), str(sides / "a")])
    output = capsys.readouterr().out
    assert "no metric changed" in output
    assert "0.000" not in output


Seen = dict[str, Any]


def _values(sides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Seen:
    """What reached its use when the command was given these words."""
    seen: Seen = {"rows": []}
    of_metrics, most_changed, show = difference.of_metrics, difference.most_changed, compare.show

    def measured(a: difference.Side, b: difference.Side, num_resamples: int, seed: int) -> Any:
        seen.update(resamples=num_resamples, seed=seed, sides=(a.folders, b.folders))
        return of_metrics(a, b, num_resamples, seed)

    def changed(a: difference.Side, b: difference.Side, count: int) -> Any:
        seen["count"] = count
        return most_changed(a, b, count)

    def showing(compared: compare.ComparedRow, whole: bool) -> None:
        seen["whole"] = whole
        seen["rows"].append(compared.name)
        seen["pictures"] = compared.pictures
        show(compared, whole)

    for module, name, own in ((difference, "of_metrics", measured), (difference, "most_changed", changed)):
        monkeypatch.setattr(module, name, own)
    monkeypatch.setattr(compare, "show", showing)
    monkeypatch.chdir(tmp_path)
    command.main(["compare", str(sides / "a"), str(sides / "b"), *words])
    return seen | {"files": sorted(path.name for path in tmp_path.iterdir() if path.is_file() or path.name == "plots")}


OPTIONS: dict[str, tuple[list[str], Callable[[Seen, Path], tuple[object, object]]]] = {
    "a": ([], lambda seen, sides: (seen["sides"][0], (sides / "a" / "more",))),
    "b": ([], lambda seen, sides: (seen["sides"][1], (sides / "b" / "more",))),
    "--row": (["more"], lambda seen, sides: (seen["rows"], ["more"])),
    "--all": ([], lambda seen, sides: (seen["whole"], True)),
    "--count": (["1"], lambda seen, sides: (seen["count"], 1)),
    "--resamples": (["37"], lambda seen, sides: (seen["resamples"], 37)),
    "--seed": (["5"], lambda seen, sides: (seen["seed"], 5)),
    "--html": (["page.html"], lambda seen, sides: (seen["files"], ["page.html"])),
    "--plots": (["plots"], lambda seen, sides: (seen["files"], ["plots"])),
    "--pictures": (["..", "../both"], lambda seen, sides: (seen["pictures"], [(Path(".."), Path("../both"))])),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_reaches_what_it_is_for(
    sides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    both = tmp_path / "both"
    for side in ("a", "b"):
        for name in ("box", "more"):
            shutil.copytree(sides / side / "box", both / side / name)
    (tmp_path / "empty").mkdir()
    words, check = OPTIONS[option]
    seen = _values(both, tmp_path / "empty", monkeypatch, *([option, *words] if option.startswith("--") else []))
    reached, expected = check(seen, both)
    assert reached == expected


def test_two_rows_of_other_names_are_compared_where_each_side_is_one(
    sides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(sides / "b" / "box", tmp_path / "b" / "other")
    command.main(["compare", str(sides / "a"), str(tmp_path / "b")])
    assert "row box" in capsys.readouterr().out
    shutil.copytree(sides / "b" / "box", tmp_path / "b" / "second")
    with pytest.raises(SystemExit):
        command.main(["compare", str(sides / "a"), str(tmp_path / "b")])
    assert "no row stands on both sides: box and other, second" in capsys.readouterr().err


def test_a_row_that_stands_on_one_side_alone_is_refused(
    sides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(sides / "b" / "box", tmp_path / "b" / "more")
    for a, b in ((sides / "a", tmp_path / "b"), (tmp_path / "b", sides / "a")):
        with pytest.raises(SystemExit):
            command.main(["compare", str(a), str(b), "--row", "more"])
        assert f"{sides / 'a'}: no scores of row 'more' there" in capsys.readouterr().err


def test_every_option_is_among_those_tried() -> None:
    options = {(action.option_strings or [action.dest])[-1] for action in compare.parser()._actions}
    assert options - {"--help", *OF_REVISIONS} == OPTIONS.keys()


OF_REVISIONS = ["--scores", "--drawn", "--real"]


def test_a_revision_is_asked_for_the_folders_that_are_named(
    sides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scores").mkdir()
    for name in ("box", row_of_table.REAL):
        shutil.copytree(sides / "a" / "box", tmp_path / "scores" / name)
    paths = list[tuple[str, Path]]()

    def of_revision(revision: str, path: Path, scratch: Path, name: str = "scores") -> Path:
        paths.append((revision, path))
        return Path(shutil.copytree(tmp_path / "scores", scratch / name))

    monkeypatch.setattr(compare, "_of_revision", of_revision)
    command.main(["compare", "then", "now", *np.ravel([(name, name.strip("-")) for name in OF_REVISIONS]).tolist()])
    expected = {Path("scores"), Path("drawn/box"), Path("real")}
    assert {revision: {path for rev, path in paths if rev == revision} for revision in ("then", "now")} == {
        "then": expected,
        "now": expected,
    }


@pytest.mark.parametrize(
    ("a", "b", "cells"),
    [
        (0.657, 0.043, ["0.657", "0.043", "-0.614", "-0.659 to -0.567"]),
        (0.0001234, 0.0, ["0.000123", "0.000000", "-0.000123", "-0.659000 to -0.567000"]),
        (0.0099, 0.01, ["0.0099", "0.0100", "+0.0001", "-0.6590 to -0.5670"]),
        (12.5, 0.0, ["12.500", "0.000", "-12.500", "-0.659 to -0.567"]),
        (0.0, 0.0, ["0.000", "0.000", "+0.000", "-0.659 to -0.567"]),
        (math.nan, 1.0, ["nan", "1.000", "+nan", "-0.659 to -0.567"]),
    ],
)
def test_a_small_number_is_shown_by_its_own_digits(a: float, b: float, cells: list[str]) -> None:
    shown = difference.Difference("kid", a, b, -0.659, -0.567, paired=True)
    assert compare._cells(shown)[1:5] == cells


def test_no_number_is_cut_in_a_terminal_of_80_columns(
    sides: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    a, b = (difference.read([sides / name / "box"]) for name in ("a", "b"))
    longest = difference.Difference("box_ap/category/triangle", 0.657, 0.043, -0.659, -0.567, paired=False)
    compare.show(compare.ComparedRow("box", a, b, None, [longest], difference.most_changed(a, b, 0), []))
    output = capsys.readouterr().out
    assert longest.name in output
    assert "0.657  0.043  -0.614  -0.659 to -0.567" in output


def test_folders_without_a_row_in_common_are_refused(
    sides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit):
        command.main(["compare", str(sides / "a"), str(tmp_path / "empty")])
    assert "no scores of any row there" in capsys.readouterr().err


def test_commits_are_compared_with_what_dvc_kept_of_them(
    sides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    for words in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(words, check=True)
    for side in ("a", "b"):
        for kind, source in (("scores", sides / side / "box"), ("generated", sides / f"drawn-{side}-box")):
            target = tmp_path / "data" / kind / "box"
            subprocess.run(["rm", "-rf", str(target)], check=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-r", str(source), str(target)], check=True)
        subprocess.run([sys.executable, "-m", "dvc", "add", "-q", "data/scores/box", "data/generated/box"], check=True)
        subprocess.run(["git", "add", "-A"], check=True)
        subprocess.run(["git", *identity, "commit", "-qm", side], check=True)
        subprocess.run(["git", "tag", side], check=True)
    compare.main(["a", "b", "--html", str(tmp_path / "page.html")])
    assert "+0.286" in capsys.readouterr().out
    assert (tmp_path / "page.html").read_text().count("data:image/webp") == 4
