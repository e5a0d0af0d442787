"""Layouts as people write them: what is read, and how faults are told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from layout_cases import MASK, RLE, STRUCTURES, released
from PIL import Image

from instdiff import __main__ as command
from instdiff.layouts import files, from_tables, mask_pictures, masks
from instdiff.schema import Box, Instance, Layout, Point, Rle

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
    assert [instance.phrase for instance in layout.instances] == [anno["caption"] for anno in record["annos"]]
    for instance, anno in zip(layout.instances, record["annos"], strict=True):
        assert (instance.box is None) == ("bbox" not in anno)
        assert (instance.point is None) == ("point" not in anno)
        assert (instance.mask is None) == (not anno.get("mask"))
        assert (instance.scribble is None) == ("scribble" not in anno)


def test_released_pixels_become_fractions(tmp_path: Path) -> None:
    anno = {"caption": "a", "bbox": [64, 128, 128, 256], "point": [600, 256], "scribble": [0, 0, 512, 513]}
    (instance,) = files.read(written(tmp_path, released(anno)))[0].instances
    assert instance.box == Box(0.125, 0.25, 0.375, 0.75)
    assert instance.point == Point(1.0, 0.5)  # past the border: on it
    assert instance.scribble == (Point(0, 0), Point(1, 1))


def test_the_released_reading_loses_what_the_released_script_loses(tmp_path: Path) -> None:
    first = {"caption": "a", "bbox": [0, 0, 512, 256], "mask": RLE, "scribble": [0, 0, 512, 256]}
    path = written(tmp_path, released(first, {"caption": "b", "point": [256, 0]}))
    (layout,) = files.read(path, compat="reference")
    (instance,) = layout.instances  # one point, so one instance, which gets it
    assert instance == Instance(phrase="a", box=Box(0, 0, 1, 0.5), point=Point(0.5, 0))


def test_a_mask_may_be_a_picture_and_a_scribble_a_polyline(tmp_path: Path) -> None:
    shade = np.where(MASK, 255, 0).astype(np.uint8)
    Image.fromarray(shade).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([np.full_like(shade, 255)] * 3 + [shade], axis=-1)).save(tmp_path / "clear.png")
    corners = [[0, 0], [0.5, 0], [0.5, 0.5]]
    instances = [{"phrase": "a", "mask": name, "polyline": corners} for name in ("grey.png", "clear.png")]
    (layout,) = files.read(written(tmp_path, {"prompt": "p", "instances": instances}))
    for instance in layout.instances:
        assert np.array_equal(masks.decode(instance.mask), MASK)
        assert instance.scribble[0] == (0, 0)
        assert instance.scribble[-1] == (0.5, 0.5)
        steps = np.hypot(*np.diff(np.array(instance.scribble), axis=0).T)
        assert np.ptp(steps[steps > steps.max() * 0.9]) < 1e-9
        assert max(at.x for at in instance.scribble) == 0.5


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
        (released(height=0), "height: "),
        (released(width=100_001), "width: "),
        (released(height=100_001), "height: "),
        ({**released(), "caption": "\ud800"}, "record 0: caption: holds half a character"),
        (
            {**GOOD, "instances": [{"phrase": "a", "polyline": [[0, 0]], "scribble": [[0, 0]]}]},
            "instances.0.polyline: ",
        ),
        (
            {**GOOD, "instances": [{"phrase": "a", "boxs": [0, 0, 1, 1]}]},
            "instances.0.boxs: no such field: did you mean box?",
        ),
        (
            {**GOOD, "instances": [{"phrase": "a", "mask": {**RLE, "counted": ""}}]},
            "instances.0.mask.counted: no such field: did you mean counts?",
        ),
        ({**GOOD, "promt": "p"}, "record 0: promt: no such field: did you mean prompt?"),
        ({**GOOD, "zoo": "p"}, "record 0: zoo: no such field; there are key, prompt, instances"),
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
    lines = capsys.readouterr().out.splitlines()
    assert stopped.value.code == 1
    assert [line.split("record ", 1)[1].split(":")[0] for line in lines if line.startswith("fault")] == ["1", "1", "1"]
    assert [line.rsplit(".json: ", 1)[1] for line in lines if line.startswith("remark")] == [
        "record 0: instances.0.box: (0, 0, 1.5, 1) is cut at the picture's border",
        "record 0: instances.1.box: (0, 1, 0, 1) has no area in the picture and counts as not given",
        "record 0: instances.2: nothing says where it is",
        "record 2: annos.0.bbox: (-0.009766, 0, 0.0293, 0.03906) is cut at the picture's border",
    ]
    assert lines[-1] == "2 layouts can be drawn, 3 faults"


def test_a_layout_reads_its_own_json(tmp_path: Path) -> None:
    path = written(tmp_path, [from_tables.to_json(BOTH)])
    assert files.read(path) == [BOTH]


def faults(folder: Path, instance: dict[str, Any], **layout: Any) -> list[str]:
    checked = files.check(written(folder, {**GOOD, "instances": [{"phrase": "a", **instance}], **layout}))
    return [fault.partition("record 0: ")[2] for fault in checked.faults]


@pytest.mark.parametrize(
    ("instance", "field"),  # None: no fault
    [
        ({"box": [-10, 0, 1, 1]}, None),
        ({"box": [0, 0, 10, 1]}, None),
        ({"box": [-10.001, 0, 1, 1]}, "box"),
        ({"box": [0, 0, 1, 10.001]}, "box"),
        ({"box": [0.5, 0.5, 0.5, 0.5]}, None),
        ({"box": [0.5, 0, 0.499, 1]}, "box"),
        ({"box": [0, 0.5, 1, 0.499]}, "box"),
        *(({"point": [x, y]}, None) for x in (0, 1) for y in (0, 1)),
        *(({"point": at}, "point") for at in ([1.001, 0], [0, 1.001], [-0.001, 1], [1, -0.001])),
        ({"scribble": [[0, 0], [1, 1]]}, None),
        ({"scribble": [[0, 0], [1, 1.001]]}, "scribble"),
        ({"outline": [[0, 0], [-0.001, 1]]}, "outline"),
        ({"phrase": " "}, "phrase"),
    ],
)
def test_places_are_read_up_to_their_exact_limits(tmp_path: Path, instance: dict[str, Any], field: str | None) -> None:
    messages = faults(tmp_path, instance)
    assert [fault.partition(":")[0] for fault in messages] == ([] if field is None else [f"instances.0.{field}"])


@pytest.mark.parametrize(
    ("key", "safe"),
    [
        *(("a" * 99, True), ("a" * 100, True), ("a" * 101, False), ("a.-_9", True), ("_", True)),
        *((".a", False), ("-a", False), ("\u00e4", False), ("a b", False), ("", False)),
    ],
)
def test_a_key_is_as_long_as_a_file_name_may_be(tmp_path: Path, key: str, safe: bool) -> None:
    expected = f"key: {key[:40]!r} is no safe file name: letters, digits, and . _ - after the first"
    assert faults(tmp_path, {}, key=key) == [expected] * (not safe)


@pytest.mark.parametrize(
    ("name", "key"), [("my scene (1).v2", "my_scene__1__v2"), ("a-b_C9", "a-b_C9"), ("x" * 90, "x" * 80), (".a", "_a")]
)
def test_a_layout_without_a_key_has_that_of_its_file_as_far_as_it_is_a_safe_name(
    tmp_path: Path, name: str, key: str
) -> None:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps([{"prompt": "p", "instances": []}] * 2))
    assert [layout.key for layout in files.read(path)] == [f"{key}-0", f"{key}-1"]


def test_a_key_that_stands_a_third_time_is_that_of_the_first(tmp_path: Path) -> None:
    faults_of_all = files.check(written(tmp_path, [GOOD] * 3)).faults
    assert [fault.rpartition(" is that of ")[2] for fault in faults_of_all] == ["record 0, too"] * 2


def test_the_first_fault_says_how_many_more_there_are(tmp_path: Path) -> None:
    path = written(tmp_path, {**GOOD, "instances": [{"phrase": " "}] * 3})
    with pytest.raises(ValueError, match=r"instances\.0\.phrase: is empty \(and 2 more: see instdiff validate\)$"):
        files.read(path)
    with pytest.raises(ValueError, match=r"instances\.0\.phrase: is empty$"):
        files.read(written(tmp_path, {**GOOD, "instances": [{"phrase": " "}]}))


@pytest.mark.parametrize(
    ("record", "fields"),  # of each fault
    [
        ({"instances": [{"phrase": " ", "box": [0, 0, 1]}]}, ["prompt", "instances.0.box.3", "instances.0.phrase"]),
        (
            {**GOOD, "instances": [{"point": [2, 2]}, 5, {"phrase": ""}]},
            ["instances.0.phrase", "instances.1", "instances.0.point", "instances.2.phrase"],
        ),
        (
            {**released({"point": [2, "x"], "mask": RLE | {"counts": "9"}}, 5, {"caption": ""}), "caption": None},
            ["caption", "annos.0.caption", "annos.0.point.1", "annos.1", "annos.0.mask", "annos.2.caption"],
        ),
        (
            {**GOOD, "key": "-", "instances": [{"phrase": "", "mask": "no.png"}, {"phrase": "a", "mask": "no.png"}]},
            ["instances.0.mask", "instances.1.mask", "key", "instances.0.phrase"],
        ),
    ],
)
def test_a_fault_of_form_hides_no_fault_of_another_field(tmp_path: Path, record: object, fields: list[str]) -> None:
    checked = files.check(written(tmp_path, record))
    assert [fault.partition("record 0: ")[2].partition(": ")[0] for fault in checked.faults] == fields
    assert checked.layouts == []


@pytest.mark.parametrize("nothing", [[], {}, "", None])
@pytest.mark.parametrize("name", ["bbox", "point", "scribble", "mask"])
def test_what_is_empty_in_the_released_json_is_not_given(tmp_path: Path, name: str, nothing: object) -> None:
    (layout,) = files.read(written(tmp_path, released({"caption": "a", name: nothing})))
    assert layout.instances == (Instance(phrase="a"),)


def test_each_mask_that_is_read_otherwise_than_written_is_remarked_on(tmp_path: Path) -> None:
    Image.fromarray(MASK.astype(np.uint8)).save(tmp_path / "mask.png")
    path = written(tmp_path, {**GOOD, "instances": [{"phrase": "a", "mask": "mask.png"}] * 2})
    remarks = files.check(path, shape=(48, 64)).remarks
    assert [remark.partition(": 'mask.png' holds")[0].rpartition(" ")[2] for remark in remarks] == [
        "instances.0.mask",
        "instances.1.mask",
    ]


@pytest.mark.parametrize("most", [0, 1, 2, None])
@pytest.mark.parametrize("count", range(4))
def test_as_many_instances_as_slots_are_read_and_no_more(tmp_path: Path, most: int | None, count: int) -> None:
    path = written(tmp_path, {**GOOD, "instances": [{"phrase": "a"}] * count})
    assert bool(files.check(path, max_instances=most).faults) is (most is not None and count > most)


def test_the_released_model_has_thirty_slots(tmp_path: Path) -> None:
    for count, fits in ((30, True), (31, False)):
        path = written(tmp_path, {**GOOD, "instances": [{"phrase": "a"}] * count})
        assert (files.check(path).faults == []) is fits


@pytest.mark.parametrize(
    ("options", "summary"),
    [
        ([], "2 layouts can be drawn, 0 faults"),
        (["--max-instances", "2"], "2 layouts can be drawn, 0 faults"),
        (["--max-instances", "1"], "1 layout can be drawn, 1 fault"),
    ],
)
def test_validate_counts_over_all_files_by_the_slots_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], summary: str
) -> None:
    paths = [tmp_path / "1.json", tmp_path / "2.json"]
    for number, path in enumerate(paths, start=1):
        path.write_text(json.dumps({**GOOD, "instances": [{"phrase": "a"}] * number}))
    with pytest.raises(SystemExit) as stopped:
        command.main(["validate", *map(str, paths), *options])
    assert stopped.value.code == (0 if summary.endswith(" 0 faults") else 1)
    assert capsys.readouterr().out.splitlines()[-1] == summary


@pytest.mark.parametrize(("light", "inside"), [(127, False), (128, True), (129, True)])
def test_a_mask_is_what_is_at_least_middle_grey_and_not_transparent(light: int, inside: bool) -> None:
    for pixel in ((light, 255), (255, light)):
        image = Image.new("LA", (3, 2), pixel)
        image.putpixel((0, 0), (255, 255))  # without white, what is not black would be inside
        expected = [[True, inside, inside], [inside] * 3]
        assert masks.decode(mask_pictures.mask_of(image).mask).tolist() == expected


def test_a_mask_of_a_wide_picture_is_as_wide(tmp_path: Path) -> None:
    mask = np.zeros((4, 10), dtype=bool)
    mask[1, 2:9] = True
    Image.fromarray(mask).save(tmp_path / "mask.png")
    path = written(tmp_path, {**GOOD, "instances": [{"phrase": "a", "mask": "mask.png"}]})
    assert np.array_equal(masks.decode(files.read(path)[0].instances[0].mask), mask)


def test_released_pixels_of_a_wide_picture_are_fractions_of_its_width_and_its_height(tmp_path: Path) -> None:
    anno = {"caption": "a", "bbox": [50, 20, 100, 10], "point": [50, 20], "scribble": [50, 20, 100, 10]}
    (instance,) = files.read(written(tmp_path, released(anno, width=200, height=40)))[0].instances
    assert instance.box == (0.25, 0.5, 0.75, 0.75)
    assert instance.point == (0.25, 0.5)
    assert instance.scribble == ((0.25, 0.5), (0.5, 0.25))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=6), st.integers(2, 50))
def test_points_along_a_line_begin_and_end_with_it_at_equal_steps_on_it(
    vertices: list[tuple[float, float]], count: int
) -> None:
    corners = np.array(vertices)
    lengths = np.hypot(*np.diff(corners, axis=0).T)
    assume(lengths.sum() > 1e-3)
    along = np.array(files.along([Point(*at) for at in vertices], count))
    assert along.shape == (count, 2)
    assert np.allclose(along[[0, -1]], corners[[0, -1]])
    assert (np.hypot(*np.diff(along, axis=0).T) <= lengths.sum() / (count - 1) + 1e-9).all()
    for x, y in along:  # on one of the pieces: as far from its ends, together, as they are from each other
        detour = np.hypot(*(corners[:-1] - (x, y)).T) + np.hypot(*(corners[1:] - (x, y)).T) - lengths
        assert detour.min() < 1e-6


def test_a_line_that_turns_keeps_the_shares_of_its_pieces() -> None:
    corner = [Point(0, 0), Point(1, 0), Point(1, 0.5)]
    assert files.along(corner, 4) == ((0, 0), (0.5, 0), (1, 0), (1, 0.5))
    assert len(files.along(corner)) == 240
    assert files.along([Point(0.5, 0.25)] * 2) == ((0.5, 0.25),)


# ---- what people bring ----------------------------------------------------------------------------------------------

BARE_TEXT = json.dumps({"prompt": "a café", "instances": []}, ensure_ascii=False)


@pytest.mark.parametrize(
    "content",
    [
        BARE_TEXT.encode("utf-8-sig"),
        BARE_TEXT.encode("utf-16"),
        BARE_TEXT.encode("utf-16-le"),
        BARE_TEXT.encode("utf-32"),
        f"{BARE_TEXT}\r\n".encode(),
        json.dumps({"layouts": [json.loads(BARE_TEXT)]}).encode(),
    ],
)
def test_a_file_is_read_in_every_encoding_that_json_may_have(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "scene.json").write_bytes(content)
    assert files.read(tmp_path / "scene.json") == [Layout(key="scene", prompt="a café", instances=())]


def test_layouts_may_stand_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "scene.json").write_text(f"{BARE_TEXT}\n\n{BARE_TEXT}\n", encoding="utf-8")
    assert [layout.key for layout in files.read(tmp_path / "scene.json")] == ["scene-0", "scene-1"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (BARE_TEXT.encode("cp1252"), "byte 17 (0xe9) is not UTF-8: save the file as UTF-8"),
        (b"\xff\xfe{\x00\x00\xd8", "is not UTF-16"),
        (
            b'{"prompt": "p",\n "instances": [{"phrase": "a"},]}',
            "line 2, column 32: a comma stands before the closing ]",
        ),
        (b'{"prompt": "p", "instances": [],}', "a comma stands before the closing }"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "begins like a web page"),
        (b"\n <html>", "begins like a web page"),
        (b"\x1f\x8b\x08\x00", "is compressed"),
        (b"PK\x03\x04\x14", "is a zip archive"),
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b'{"prompt": "p", \n }', "line 2, column 2: a comma stands before the closing }"),
        (b"{'prompt': 1}", "line 1, column 2: "),
        (f"{BARE_TEXT}\n{{".encode(), "line 2, column 1: Extra data"),
    ],
)
def test_a_file_that_cannot_be_read_says_why_and_what_to_do_on_one_line(
    tmp_path: Path, content: bytes, says: str
) -> None:
    (tmp_path / "scene.json").write_bytes(content)
    (fault,) = files.check(tmp_path / "scene.json").faults
    assert fault.startswith(f"{tmp_path}/scene.json: not a readable JSON file (")
    assert says in fault
    assert "\n" not in fault


def test_a_file_that_is_not_there_or_a_folder_says_so(tmp_path: Path) -> None:
    assert "(no such file)" in files.check(tmp_path / "none.json").faults[0]
    assert "(it is a folder)" in files.check(tmp_path).faults[0]


def palette(values_HW: np.ndarray, colours: list[int]) -> Image.Image:
    image = Image.frombytes("P", values_HW.shape[::-1], values_HW.astype(np.uint8).tobytes())
    image.putpalette(colours)
    return image


SOLID = MASK.astype(np.uint8)
LABELS = SOLID * 3 + np.roll(SOLID, 24, axis=0) * 7  # two labels, apart
PICTURES: dict[str, tuple[Any, str | None]] = {  # whose mask is MASK -> what is said of it
    "white": (SOLID * 255, None),
    "one bit": (MASK, None),
    "sixteen bits": (SOLID.astype(np.uint16) * 65535, None),
    "white in a palette": (palette(SOLID, [0, 0, 0, 255, 255, 255]), None),
    "transparent": (np.dstack([np.full((48, 64, 3), 255, np.uint8), SOLID * 255]), None),
    "0 and 1": (SOLID, "holds the values 0, 1 of 255: every value but 0 is inside"),
    "0 and 1 in sixteen bits": (SOLID.astype(np.uint16), "holds the values 0, 1 of 65535: every value but 0 is inside"),
    "0 and 255 in sixteen bits": (SOLID.astype(np.uint16) * 255, "holds the values 0, 255 of 65535"),
    "a label": (SOLID * 3, "holds the values 0, 3 of 255"),
    "VOC's palette": (palette(SOLID, [0, 0, 0, 128, 0, 0]), "has colours, as a label map: every colour but black"),
    "red": (np.dstack([SOLID * 255, SOLID * 0, SOLID * 0]), "has colours, as a label map"),
    "blue, with transparency": (np.dstack([SOLID * 0, SOLID * 0, SOLID * 200 + 55, SOLID * 255]), "has colours and tr"),
    "grey around": (np.where(MASK, 255, 90).astype(np.uint8), "is neither black nor white in 83% of its pixels"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_mask_picture_is_read_as_it_is_meant_and_a_remark_says_how(tmp_path: Path, name: str) -> None:
    picture, remark = PICTURES[name]
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(tmp_path / "mask.png")
    path = written(tmp_path, {"prompt": "p", "instances": [{"phrase": "a", "mask": "mask.png"}]})
    checked = files.check(path, shape=(48, 64))
    assert np.array_equal(masks.decode(checked.layouts[0].instances[0].mask), MASK)
    remarks = [line.partition("instances.0.mask: ")[2] for line in checked.remarks]
    assert remarks == [] if remark is None else remarks[0].startswith(f"'mask.png' {remark}")


def test_a_label_map_of_several_values_is_inside_at_each_and_says_so(tmp_path: Path) -> None:
    Image.fromarray(LABELS).save(tmp_path / "mask.png")
    checked = files.check(written(tmp_path, {"prompt": "p", "instances": [{"phrase": "a", "mask": "mask.png"}]}))
    assert np.array_equal(masks.decode(checked.layouts[0].instances[0].mask), LABELS > 0)
    assert "holds the values 0, 3, 7 of 255: every value but 0 is inside" in checked.remarks[0]


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_mask_picture_is_turned_as_its_camera_was_held(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(SOLID * 255).save(tmp_path / "mask.png", exif=exif)
    (layout,) = files.read(written(tmp_path, {"prompt": "p", "instances": [{"phrase": "a", "mask": "mask.png"}]}))
    turned = np.rot90(MASK, {3: 2, 6: -1, 8: 1}[orientation])
    assert np.array_equal(masks.decode(layout.instances[0].mask), turned)


REMARKED: list[tuple[dict[str, Any], str | None]] = [
    ({"box": [0, 0, 10, 10]}, "box: (0, 0, 10, 10) is cut at the picture's border: are these percent or pixels?"),
    ({"box": [1, 2, 8, 9]}, "box: (1, 2, 8, 9) has no area in the picture and counts as not given: are these percent"),
    ({"box": [0.1, 0.1, 0.1005, 0.5]}, "box: (0.1, 0.1, 0.1005, 0.5) is smaller than a pixel of 512"),
    ({"box": [0.1, 0.1, 0.4, 0.5]}, None),
    ({"mask": masks.encode(np.zeros((8, 8), bool)).model_dump()}, "mask: no pixel is inside"),
    ({"mask": masks.encode(np.ones((8, 8), bool)).model_dump()}, "mask: every pixel is inside"),
    ({"mask": RLE}, "mask: is 64x48, and the picture a square: it is stretched"),
]


@pytest.mark.parametrize(("place", "remark"), REMARKED)
def test_what_is_read_otherwise_than_written_is_remarked_on(
    tmp_path: Path, place: dict[str, Any], remark: str | None
) -> None:
    path = written(tmp_path, {"prompt": "p", "instances": [{"phrase": "a", **place}]})
    remarks = files.check(path).remarks
    assert remarks == [] if remark is None else remark in remarks[0]


@pytest.mark.parametrize(
    ("record", "remark"),
    [
        (released({"caption": "a", "bbox": [0.1, 0.2, 0.4, 0.5]}), "annos.0.bbox: "),
        (released({"caption": "a", "point": [0.7, 0.4]}), "annos.0.point: (0.7, 0.4) lies in the first pixel"),
        (
            released({"caption": "a", "scribble": [0.1, 0.2, 0.4, 0.5]}),
            "annos.0.scribble: (0.1, 0.2) lies in the first",
        ),
        (
            released({"caption": "a", "bbox": [0, 0, 9, 9]}, width=768),
            "width, height: written for 768x512, drawn as a s",
        ),
        (released({"caption": "a", "mask": RLE}), "annos.0.mask: is 64x48, and the picture 512x512: it is stretched"),
    ],
)
def test_units_and_shapes_of_the_released_json_are_remarked_on(
    tmp_path: Path, record: dict[str, Any], remark: str
) -> None:
    remarks = files.check(written(tmp_path, record)).remarks
    assert len(remarks) == 1
    assert remark in remarks[0]


@pytest.mark.parametrize(
    ("place", "is_remarked"),
    [
        ({"point": [0, 0]}, False),
        ({"point": [0.99, 0.5]}, True),
        ({"point": [0.5, 0.99]}, True),
        ({"point": [1, 0.5]}, False),
        ({"point": [0.5, 1]}, False),
        ({"scribble": [0, 0, 0.5, 0.5]}, True),
        ({"scribble": [0.5, 0.5, 40, 50]}, False),
        ({"scribble": [0, 0, 0, 0]}, False),
    ],
)
def test_places_within_the_first_pixel_alone_look_like_fractions(
    tmp_path: Path, place: dict[str, Any], is_remarked: bool
) -> None:
    remarks = files.check(written(tmp_path, released({"caption": "a", **place})), shape=(512, 512)).remarks
    assert ["lies in the first pixel" in remark for remark in remarks] == [True] * is_remarked


def test_a_layout_of_the_shape_that_is_drawn_has_no_remark(tmp_path: Path) -> None:
    path = written(tmp_path, released({"caption": "a", "bbox": [0, 0, 9, 9]}, width=768))
    assert files.check(path, shape=(1024, 1536)).remarks == []


def test_the_words_that_the_text_encoder_does_not_read_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = " ".join(["fine"] * 73 + ["red,", "lost", "words"])
    instances = [{"phrase": "a", "point": [0, 0]}, {"phrase": long, "point": [0, 0]}]
    path = written(tmp_path, {"prompt": long, "instances": instances})
    with pytest.raises(SystemExit):
        command.main(["validate", str(path)])
    remarks = [line for line in capsys.readouterr().out.splitlines() if line.startswith("remark")]
    assert [line.partition("scene.json: scene: ")[2] for line in remarks] == [
        f"{where}: has at least 77 tokens, and the text encoder reads 75: lost is 'lost words'"
        for where in ("prompt", "instances.1.phrase")
    ]
