"""Layouts as people write them: what is read, and how faults are told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from instdiff import __main__ as command
from instdiff.layouts import files, from_tables, masks
from instdiff.schema import Box, Instance, Layout, Point, Rle

MASK = np.zeros((48, 64), dtype=bool)
MASK[8:24, 16:48] = True
RLE = masks.encode(MASK).model_dump(mode="json")
BOTH = Layout(
    key="two",
    prompt="Both.",
    instances=(
        Instance(phrase="something"),
        Instance(
            phrase="a red ring",
            category="ring",
            box=Box(0, 0.5, 1, 1),
            point=Point(0.25, 0.75),
            scribble=(Point(0, 0.5), Point(0.25, 0.5)),
            mask=Rle(size=(2, 4), counts="44"),
            outline=(Point(0, 0), Point(0.5, 1)),
        ),
    ),
)
BARE = Layout(key="none", prompt="Bare.", instances=())
GOOD = {"key": "k", "prompt": "p", "instances": [{"phrase": "a"}]}


def released(*annos: dict[str, Any], width: int = 512, height: int = 512) -> dict[str, Any]:
    return {"caption": "a scene", "width": width, "height": height, "annos": list(annos)}


# the structures of the released demos, with words and places of our own
STRUCTURES: dict[str, dict[str, Any]] = {
    "boxes with empty masks": released(
        *({"caption": f"thing {n}", "bbox": [100 * n, 40, 90, 200], "mask": [], "category_name": ""} for n in range(4))
    ),
    "some masks, a box past the border": released(
        {"caption": "a cup", "bbox": [16, 8, 32, 16], "mask": RLE},
        {"caption": "a long bench", "bbox": [0, 30, 96, 10], "mask": []},
        width=64,
        height=48,
    ),
    "points only": released(*({"caption": f"tower {n}", "point": [90 * n, 33]} for n in range(7)), width=768),
    "wide picture": released(*({"caption": f"fruit {n}", "bbox": [40 * n, 300, 60, 80]} for n in range(17)), width=768),
    "an edited wide picture": released(
        *({"caption": f"fruit {n}", "bbox": [40 * n, 300, 60, 90], "mask": []} for n in range(19)), width=768
    ),
    "a box without area among many": released(
        *({"caption": f"rose {n}", "bbox": [18 * n, 20, 17, 60], "mask": []} for n in range(27)),
        {"caption": "grass", "bbox": [0, 512, 0, 0], "mask": []},
    ),
    "ten boxes, one with a point": released(
        {"caption": "a bear", "bbox": [10, 10, 200, 300], "point": [50, 60]},
        *({"caption": f"castle {n}", "bbox": [5 * n, 5, 100, 100]} for n in range(9)),
    ),
    "an instance that is nowhere": released({"caption": "mist"}, {"caption": "a lake", "bbox": [0, 256, 512, 256]}),
    "scribbles in both forms": released(
        {"caption": "a river", "scribble": [10, 10, 100, 120, 300, 200]},
        {"caption": "a road", "scribble": [[10, 10], [100, 120]]},
    ),
    "nothing but a caption": released(),
}


def written(folder: Path, record: object) -> Path:
    path = folder / "scene.json"
    path.write_text(json.dumps(record))
    return path


def test_layouts_survive_being_written(tmp_path: Path) -> None:
    files.write(tmp_path / "layouts.json", [BOTH, BARE])
    assert files.read(tmp_path / "layouts.json") == [BOTH, BARE]
    assert "null" not in (tmp_path / "layouts.json").read_text()


def test_a_single_layout_needs_no_list(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('{"key": "k", "prompt": "p", "instances": [{"phrase": "a"}]}')
    assert files.read(tmp_path / "one.json") == [Layout(key="k", prompt="p", instances=(Instance(phrase="a"),))]


@pytest.mark.parametrize(
    ("record", "names"),
    [
        ({**GOOD, "prompt": None}, "record 1: prompt: "),
        ({**GOOD, "key": ""}, "record 1: "),
        ({**GOOD, "instances": [{"phrase": "a", "box": [0, 0, 1]}]}, "record 1: instances.0.box.3: "),
        ({**GOOD, "instances": [{"phrase": "a", "box": [0, 0, 1, float("nan")]}]}, "record 1: instances.0.box.3: "),
        ({**GOOD, "instances": [{"phrase": "a", "boxes": [0, 0, 1, 1]}]}, "record 1: instances.0.boxes: "),
        ({**GOOD, "instances": [{"phrase": "a", "scribble": [[0, 0], 1]}]}, "record 1: instances.0.scribble.1: "),
        ({**GOOD, "key": "first"}, "record 1: key: 'first' is that of record 0, too"),
        ("text", "record 1: the whole: "),
    ],
)
def test_a_bad_layout_is_one_sentence_with_file_record_and_field(tmp_path: Path, record: object, names: str) -> None:
    path = tmp_path / "layouts.json"
    path.write_text(json.dumps([{**GOOD, "key": "first"}, record]))
    with pytest.raises(ValueError, match=r"layouts\.json") as error:
        files.read(path)
    assert names in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.json: not a readable JSON file"):
        files.read(tmp_path / "broken.json")


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_structures_of_the_released_demos_are_read(tmp_path: Path, name: str) -> None:
    record = STRUCTURES[name]
    (layout,) = files.read(written(tmp_path, record))
    assert layout.key == "scene"
    assert [one.phrase for one in layout.instances] == [anno["caption"] for anno in record["annos"]]
    for one, anno in zip(layout.instances, record["annos"], strict=True):
        assert (one.box is None) == ("bbox" not in anno)
        assert (one.point is None) == ("point" not in anno)
        assert (one.mask is None) == (not anno.get("mask"))
        assert (one.scribble is None) == ("scribble" not in anno)


def test_released_pixels_become_fractions(tmp_path: Path) -> None:
    anno = {"caption": "a", "bbox": [64, 128, 128, 256], "point": [600, 256], "scribble": [0, 0, 512, 256]}
    (one,) = files.read(written(tmp_path, released(anno)))[0].instances
    assert one.box == Box(0.125, 0.25, 0.375, 0.75)
    assert one.point == Point(1.0, 0.5)  # past the border: on it
    assert one.scribble == (Point(0, 0), Point(1, 0.5))


def test_the_released_reading_loses_what_the_released_script_loses(tmp_path: Path) -> None:
    first = {"caption": "a", "bbox": [0, 0, 512, 256], "mask": RLE}
    path = written(tmp_path, released(first, {"caption": "b", "point": [256, 0]}))
    (layout,) = files.read(path, compat="reference")
    (one,) = layout.instances  # one point, so one instance, which gets it
    assert one == Instance(phrase="a", box=Box(0, 0, 1, 0.5), point=Point(0.5, 0))


def test_a_mask_may_be_a_picture_and_a_scribble_a_polyline(tmp_path: Path) -> None:
    shade = np.where(MASK, 255, 0).astype(np.uint8)
    Image.fromarray(shade).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([np.full_like(shade, 255)] * 3 + [shade], axis=-1)).save(tmp_path / "clear.png")
    corners = [[0, 0], [0.5, 0], [0.5, 0.5]]
    instances = [{"phrase": "a", "mask": name, "polyline": corners} for name in ("grey.png", "clear.png")]
    (layout,) = files.read(written(tmp_path, {"prompt": "p", "instances": instances}))
    for one in layout.instances:
        assert np.array_equal(masks.decode(one.mask), MASK)
        assert one.scribble[0] == (0, 0)
        assert one.scribble[-1] == (0.5, 0.5)
        steps = np.hypot(*np.diff(np.array(one.scribble), axis=0).T)
        assert np.ptp(steps[steps > steps.max() * 0.9]) < 1e-9
        assert max(at.x for at in one.scribble) == 0.5


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({**GOOD, "instances": [{"phrase": " "}]}, "record 0: instances.0.phrase: is empty"),
        ({**GOOD, "instances": [{"phrase": "\ud800"}]}, "instances.0.phrase: holds half a character"),
        ({**GOOD, "prompt": "\ud800"}, "prompt: holds half a character"),
        ({**GOOD, "key": "../../out"}, "key: '../../out' is no safe file name"),
        (
            {**GOOD, "instances": [{"phrase": "a", "box": [40, 40, 300, 400]}]},
            "instances.0.box: (40, 40, 300, 400) lies far",
        ),
        (
            {**GOOD, "instances": [{"phrase": "a", "box": [0.5, 0, 0.1, 1]}]},
            "instances.0.box: (0.5, 0, 0.1, 1) ends before",
        ),
        ({**GOOD, "instances": [{"phrase": "a", "point": [0, 1.5]}]}, "instances.0.point: (0, 1.5) lies outside"),
        ({**GOOD, "instances": [{"phrase": "a", "scribble": [[-1, 0]]}]}, "instances.0.scribble: (-1, 0) lies outside"),
        ({**GOOD, "instances": [{"phrase": "a", "mask": "no.png"}]}, "instances.0.mask: 'no.png' cannot be read"),
        (
            {**GOOD, "instances": [{"phrase": "a", "mask": {"size": [2, 2], "counts": "9"}}]},
            "instances.0.mask: the runs",
        ),
        ({**GOOD, "instances": [{"phrase": "a"}] * 31}, "instances: there are 31, but the model has slots for 30"),
        (released({"caption": ""}), "record 0: annos.0.caption: is empty"),
        (released({"caption": "a", "bbox": [0, 0, 9, -9]}), "record 0: annos.0.bbox: (0, 0,"),
        (released({"caption": "a", "bbox": [0, 0, 9]}), "annos.0.bbox.3: "),
        (released(width=0), "width: "),
        ([], "holds no layout"),
    ],
)
def test_every_fault_names_its_record_and_field(tmp_path: Path, record: object, says: str) -> None:
    with pytest.raises(ValueError, match=r"scene\.json: ") as error:
        files.read(written(tmp_path, record))
    assert says in str(error.value)


def test_validate_tells_all_faults_and_remarks_and_what_remains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [
        {
            **GOOD,
            "instances": [
                {"phrase": "a", "box": [0, 0, 1.5, 1]},
                {"phrase": "b", "box": [0, 1, 0, 1]},
                {"phrase": "c"},
            ],
        },
        {**GOOD, "key": "bad", "instances": [{"phrase": "", "point": [2, 2]}, {"phrase": "a", "point": [0, 2]}]},
        released({"caption": "a", "bbox": [-5, 0, 20, 20]}),
    ]
    with pytest.raises(SystemExit) as stopped:
        command.main(["validate", str(written(tmp_path, records))])
    told = capsys.readouterr().out.splitlines()
    assert stopped.value.code == 1
    assert [line.split("record ", 1)[1].split(":")[0] for line in told if line.startswith("fault")] == ["1", "1", "1"]
    assert [line.rsplit(".json: ", 1)[1] for line in told if line.startswith("remark")] == [
        "record 0: instances.0.box: (0, 0, 1.5, 1) is cut at the picture's border",
        "record 0: instances.1.box: (0, 1, 0, 1) has no area in the picture and counts as not given",
        "record 0: instances.2: nothing says where it is",
        "record 2: annos.0.bbox: (-0.009766, 0, 0.0293, 0.03906) is cut at the picture's border",
    ]
    assert told[-1] == "2 layouts can be drawn, 3 faults"


def test_a_layout_reads_its_own_json(tmp_path: Path) -> None:
    path = written(tmp_path, [from_tables.to_json(BOTH)])
    assert files.read(path) == [BOTH]
