"""What it costs to draw many pictures, but for the networks: 5,000 layouts, cut, kept and gathered by the stage.

The pipeline is a stand-in that returns one picture at once, so that all that is timed is ours: tables, batches, noise,
files and records.
"""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from tiny_pipeline import SIZES

from instdiff.files import tables
from instdiff.layouts.columns import ANNOTATED, IMAGES
from instdiff.layouts.table_rows import TableRow
from instdiff.model.unet import LayersConfig
from instdiff.networks.device import PLAIN
from instdiff.sampling import generate
from instdiff.work.parts import Work
from instdiff.work.workers import Workers

NUM_LAYOUTS, INSTANCES, SIDE = 5000, 7, 64


class Instant:
    """Draws nothing."""

    unet = SimpleNamespace(config=SimpleNamespace(in_channels=4, sample_size=8))

    def __call__(self, layouts: list[object], **_: object) -> SimpleNamespace:
        """A grey picture a layout."""
        return SimpleNamespace(images=[Image.new("RGB", (SIDE, SIDE))] * len(layouts))


def test_orchestration_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Print milliseconds a picture, by the clock and of the processor."""
    keys = [f"{number:012d}" for number in range(NUM_LAYOUTS)]
    image = {"group": "mixed", "file": "f", "width": SIDE, "height": SIDE, "sha256": "0", "caption": "a view"}
    tables.write(tmp_path / "images.parquet", [{"key": key, **image} for key in keys], IMAGES)
    row = dict.fromkeys(ANNOTATED.names) | {"caption": "a dog", "box": [0.1, 0.2, 0.5, 0.9], "category": "dog"}
    rows = [{**row, "key": key, "index": index} for key in keys for index in range(INSTANCES)]
    tables.write(tmp_path / "annotated.parquet", rows, ANNOTATED)
    folders = {name: tmp_path / name for name in ("text", "vae", "unet", "instance")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "weights").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(generate, "load", lambda **_: Instant())
    stated = LayersConfig(unifusion_config=SIZES.model_copy(update={"max_instances": 30}), scale_u=True)
    monkeypatch.setattr(generate, "layers_config", lambda _: stated)
    here = Work(part_size=100, retry=(), workers=Workers(executor="here", processes=1, slurm=None, dask=None))
    params = generate.Params(
        seed=0,
        rows={"box": TableRow(meaning="", pictures="drawn", formats=("box",), mis=0.36)},
        solver="plms",
        steps=50,
        guidance=7.5,
        negative_prompt="",
        alpha=1.0,
        scale_u=True,
        merge="mean",
        masked_attention=False,
        compat="reference",
        batch_size=31,
        batch_rows=310,
        max_rows=62,
        guidance_interval=(0.0, 1.0),
        reuse=1,
        device=PLAIN,
        work=here,
    )
    began = time.perf_counter(), time.process_time()
    paths = {"pictures": tmp_path, "images": tmp_path / "images.parquet", "annotated": tmp_path / "annotated.parquet"}
    counts = generate.run(**paths, **folders, generated=tmp_path / "out", row="box", params=params)
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    print(f"\n{counts['pictures']} pictures: {1e3 * wall / NUM_LAYOUTS:.2f} ms each by the clock, ", end="")
    print(f"{1e3 * cpu / NUM_LAYOUTS:.2f} ms of the processor")
    assert counts["pictures"] == NUM_LAYOUTS
