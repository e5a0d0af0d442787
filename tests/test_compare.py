"""`instdiff compare`: paired differences by hand, what changed most, and what cannot be compared."""

import json
import subprocess
import sys
from pathlib import Path

import eval_world
import pytest
from test_score import EYES, PARAMS

from eval import compare, detect, detections, difference, ground_truth, pictures, score
from eval import row as row_of_table
from instdiff import __main__ as command

MISSING = {("b", 0): None, ("d", 0): None}


def _row(world: Path, folder: Path, name: str, repainted: dict[tuple[str, int], None], seed: int = 0) -> Path:
    """The pictures with these instances left out, scored, in folder/name with the pictures beside the scores."""
    drawn = world / f"drawn-{folder.name}-{name}"
    eval_world.draw(drawn, dict(repainted), 90 + seed)
    truth = ground_truth.load(world / "images.parquet", world / "annotated.parquet")
    judged = pictures.find(drawn, truth.images, None)
    detect.write(
        drawn / "found.json", eval_world.PixelDetector(), "abc", judged, detect.Params(batch_size=4, square=None)
    )
    inputs = row_of_table.Inputs(truth, judged, None, detections.read(drawn / "found.json", judged.sizes))
    scored = score.score(name, inputs, EYES, PARAMS)
    score.write(folder / name, scored, row_of_table.sources(name, inputs, "judge", PARAMS))
    (drawn / "found.json").unlink()
    return drawn


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("compare")
    eval_world.write(world)
    _row(world, world / "a", "box", MISSING)
    _row(world, world / "b", "box", {})
    return world


def _differences(sides: Path, a: str = "a", b: str = "b") -> dict[str, difference.Difference]:
    one, other = (difference.read(sides / name / "box") for name in (a, b))
    return {found.name: found for found in difference.of_metrics(one, other, num_resamples=200, seed=0)}


def test_the_difference_is_that_of_the_means_of_the_same_instances(sides: Path) -> None:
    found = _differences(sides)
    assert found["box_miou"].value == pytest.approx(2 / 7)  # two of seven were left out in A
    assert (found["box_miou"].one, found["box_miou"].other) == pytest.approx((5 / 7, 1.0))
    assert found["box_miou"].paired
    assert found["box_ap"].paired
    assert not found["box_ap/category/square"].paired
    assert found["box_ap"].low <= found["box_ap"].value <= found["box_ap"].high


def test_average_precision_is_paired_by_what_it_counted_and_only_bounded_without(sides: Path) -> None:
    one, other = (difference.read(sides / name / "box") for name in ("a", "b"))
    paired = _differences(sides)["box_ap"]
    one.source["num_pictures"] = 5  # of something else
    bounded = {found.name: found for found in difference.of_metrics(one, other, 200, 0)}["box_ap"]
    assert (paired.paired, bounded.paired) == (True, False)
    assert paired.value == bounded.value


def test_pairing_leaves_nothing_between_a_result_and_itself(sides: Path) -> None:
    for one in _differences(sides, "a", "a").values():
        assert one.value == 0
        assert not one.certain
        assert (one.low, one.high) == (0, 0) or not one.paired


def test_turning_the_sides_turns_the_sign(sides: Path) -> None:
    there, back = _differences(sides), _differences(sides, "b", "a")
    for name, one in there.items():
        assert (one.value, one.low, one.high) == pytest.approx(
            (-back[name].value, -back[name].high, -back[name].low), abs=1e-9
        )


def test_the_instances_that_changed_most_come_first_and_unchanged_ones_not_at_all(sides: Path) -> None:
    changed = difference.most_changed(*(difference.read(sides / name / "box") for name in ("a", "b")), count=5)
    assert [tuple(place) for place in changed[["key", "index"]].to_numpy()] == [("b", 0), ("d", 0)]
    assert changed["change"].tolist() == pytest.approx([3.0, 3.0])  # box IoU, mask IoU and PiM, from 0 to 1


def test_rows_of_other_layouts_are_refused(sides: Path, tmp_path: Path) -> None:
    one, other = (difference.read(sides / name / "box") for name in ("a", "b"))
    with pytest.raises(ValueError, match="not of the same layouts"):
        difference.checked(one, other._replace(scores=other.scores.iloc[1:].reset_index(drop=True)))


def test_what_else_differs_is_said(sides: Path) -> None:
    one, other = (difference.read(sides / name / "box") for name in ("a", "b"))
    assert difference.checked(one, other) == []
    other.source["judge"] = "another"
    other.source["detected_by"]["detector"] = "another"
    assert difference.checked(one, other) == ["judge", "detector"]


def test_the_page_and_the_plots_hold_both_sides_of_what_changed(sides: Path, tmp_path: Path) -> None:
    html, plots = tmp_path / "page.html", tmp_path / "plots"
    drawn = [str(sides / f"drawn-{side}-box") for side in ("a", "b")]
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
            *drawn,
        ]
    )
    text = html.read_text()
    assert text.count("data:image/webp") == 4
    assert "http" not in text
    records = {one["metric"]: one for one in json.loads((plots / "box.json").read_text())}
    assert records["box_miou"]["difference"] == pytest.approx(2 / 7)
    assert sorted(path.name for path in (plots / "box").iterdir()) == ["00-b-0.png", "01-d-0.png"]


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
