"""`dvc plots diff` with this repository's template: curves and pictures of two revisions, without a network."""

import shutil
from pathlib import Path

import browser
import toy_graph
from PIL import Image

ROOT = Path(__file__).parents[2]
PLOTS = "plots:\n- log.csv: {title: Training, x: step, y: loss}\n- samples.png\n"


def commit(folder: Path, losses: list[float], colour: str) -> None:
    lines = [f"{step},{loss}" for step, loss in enumerate(losses)]
    (folder / "log.csv").write_text("\n".join(["step,loss", *lines]) + "\n")
    Image.new("RGB", (8, 8), colour).save(folder / "samples.png")
    toy_graph.run("git", "add", ".", at=folder)
    toy_graph.run("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", colour, at=folder)


def test_the_curves_and_pictures_of_two_revisions_appear_offline(tmp_path: Path) -> None:
    toy_graph.run("git", "init", "-q", at=tmp_path)
    (tmp_path / ".dvc").mkdir()
    for name in ("config", "plots.html"):
        shutil.copy(ROOT / ".dvc" / name, tmp_path / ".dvc")
    (tmp_path / "dvc.yaml").write_text(PLOTS)
    commit(tmp_path, [4.0, 2.0, 1.0], "red")
    commit(tmp_path, [4.0, 3.0, 3.0], "blue")
    toy_graph.dvc("plots", "diff", "-q", "HEAD~1", "HEAD", "-o", "page", at=tmp_path)

    errors: list[str] = []
    with browser.opened() as tab:
        hosts = browser.asked_of(tab)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto((tmp_path / "page" / "index.html").as_uri(), wait_until="load")
        lines = [line.get_attribute("points") or "" for line in tab.locator("svg polyline").all()]
        text = tab.locator("body").inner_text()
        widths = tab.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert not errors
    assert not hosts
    ends = [tuple(map(float, line.split()[-1].split(","))) for line in lines]
    starts = [tuple(map(float, line.split()[0].split(","))) for line in lines]
    assert starts[0] == starts[1] and ends[0][0] == ends[1][0] > starts[0][0]
    assert sorted(down for _, down in ends) == sorted([300.0, 300.0 - 288.0 * 2 / 3])
    assert "loss by step" in text and "HEAD: 3.000 at the end" in text and "HEAD~1: 1.000 at the end" in text
    assert widths == [8, 8]
