"""Whatever a library raises on bytes from outside becomes one sentence that names the file, or is lived with."""

import gzip
import json
import zipfile
import zlib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors import SafetensorError
from transformers import CLIPTextConfig

from instdiff.checkpoints import comfyui, open_clip, reading, sizes
from instdiff.config import combinations
from instdiff.data import index, shards
from instdiff.files import picture_files, provenance, tables, texts
from instdiff.layouts import coco
from instdiff.model import unet
from instdiff.networks import clip, loading, weight_files
from instdiff.schema import Layout
from instdiff.work import packs
from instdiff.work.pictures import Picture, UnreadablePicture

SCHEMA = tables.columns(key=pa.string())
ARROW = (OSError("some"), pa.ArrowInvalid("some"))
DECODERS = (OSError("some"), ValueError("some"), SyntaxError("some"), EOFError("some"))


class Fails(NamedTuple):
    """What is made to fail, with what, by whom it is asked, and what is said then."""

    target: Any
    name: str
    errors: tuple[Exception, ...]
    ask: Callable[[Path], object]
    says: str
    before: Callable[[Path], None] | None = None


def archive(folder: Path) -> None:
    with zipfile.ZipFile(folder / "file", "w") as file:
        file.writestr("data.pkl", "")


def sample(_: Path) -> object:
    return shards.decode("k", shards.encode(shards.Sample("k", b"", "png", Layout(key="k", prompt="", instances=()))))


def settings(folder: Path) -> object:
    (folder / "config.json").write_text("{}")
    return sizes._text(folder)


RAISED = {
    "yaml": Fails(
        yaml,
        "load",
        (yaml.YAMLError("some"), ValueError("some"), TypeError("some"), OverflowError("some"), RecursionError("some")),
        lambda folder: texts.read_yaml(written(folder, b"")),
        "^{file}: not a readable YAML file \\(some\\)$",
    ),
    "json": Fails(
        json,
        "loads",
        (ValueError("some"), RecursionError("some")),
        lambda folder: texts.read_json(written(folder, b"1")),
        "^{file}: not a readable JSON file \\((some|it is nested too deeply)\\)$",
    ),
    "bytes": Fails(
        Path,
        "read_bytes",
        (OSError("some"), ValueError("some"), PermissionError("some")),
        lambda folder: texts.read_text(folder / "file"),
        "^{file}: not a readable text file \\(some\\)$",
    ),
    "pictures": Fails(
        Image,
        "open",
        (*DECODERS, Image.DecompressionBombError("some")),
        lambda folder: picture_files.raw(folder / "file"),
        "^{file}: not a readable picture \\(some\\)$",
    ),
    "tables": Fails(
        pq,
        "read_table",
        ARROW,
        lambda folder: tables.arrow(folder / "file", SCHEMA),
        "^{file}: not a readable Parquet table \\(some\\)$",
    ),
    "archives": Fails(
        zipfile,
        "ZipFile",
        (zipfile.BadZipFile(), OSError(), ValueError(), NotImplementedError()),
        lambda folder: weight_files.recognised(folder / "file"),
        "^{file}: is a damaged zip archive$",
        archive,
    ),
    "settings of texts": Fails(
        CLIPTextConfig,
        "from_dict",
        (TypeError(), ValueError()),
        settings,
        "config.json: not the settings of a CLIP text encoder$",
    ),
    "layouts of a shard": Fails(
        gzip, "decompress", (OSError("some"), EOFError("some"), zlib.error("some")), sample, "^some$"
    ),
    "strokes of a shard": Fails(shards, "load", (SafetensorError("some"),), sample, "^some$"),
}


def written(folder: Path, content: bytes) -> Path:
    (folder / "file").write_bytes(content)
    return folder / "file"


def failing(error: Exception) -> Callable[..., Any]:
    def fails(*_: object, **__: object) -> None:
        raise error

    return fails


@pytest.mark.parametrize(
    ("name", "error"), [(name, error) for name, fails in RAISED.items() for error in fails.errors],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_whatever_a_library_raises_is_one_sentence(
    name: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = RAISED[name]
    if fails.before is not None:
        fails.before(tmp_path)
    monkeypatch.setattr(fails.target, fails.name, failing(error))
    with pytest.raises(ValueError, match=fails.says.format(file=tmp_path / "file")):
        fails.ask(tmp_path)


@pytest.mark.parametrize(
    "error",
    [OSError(), ValueError(), RuntimeError(), LookupError(), TypeError(), AttributeError(), NotImplementedError()],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_class_of_networks_raises_is_one_sentence(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(weight_files, "recognised", lambda _: "safetensors")
    kind = type("Network", (), {"from_pretrained": staticmethod(failing(error))})
    with pytest.raises(ValueError, match="config.json and the weights beside it are not a Network's$"):
        loading.from_folder(kind, tmp_path)


@pytest.mark.parametrize("error", [OSError("some"), ValueError("some"), Image.DecompressionBombError("some")])
def test_a_picture_that_a_decoder_stumbles_over_is_unreadable_by_its_name(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, b"")
    monkeypatch.setattr(Image, "open", failing(error))
    with pytest.raises(UnreadablePicture, match=f"^{path}: some$"):
        Picture("k", path, 2, 2, "").pixels()


@pytest.mark.parametrize("error", [OSError(), pa.ArrowInvalid(), KeyError(), ValueError()])
def test_a_note_that_cannot_be_read_is_none(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pq, "read_table", failing(error))
    assert packs._note(Path("some")) is None


def test_versions_of_what_is_not_installed_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "version", failing(PackageNotFoundError("some")))
    assert list(provenance.versions()) == ["python"]


HEADERS = ("{", '{"a": 1}', '{"a": {}}', '{"a": {"data_offsets": [1]}}', '{"a": {"data_offsets": 1}}')


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_of_any_other_shape_is_that_of_a_damaged_file(header: str, tmp_path: Path) -> None:
    path = written(tmp_path, len(header).to_bytes(8, "little") + header.encode())
    with pytest.raises(ValueError, match="^.*file: is a damaged safetensors file: its header cannot be read$"):
        weight_files.recognised(path)


@pytest.mark.parametrize(
    "content", [{"scaleu_b": 3}, {0: 3}, {"input_blocks": {"1": {}}}, {"input_blocks": {"1": 3}}, {"input_blocks": 3}]
)
@pytest.mark.parametrize("file", [comfyui.SCALE_U, comfyui.FUSERS])
def test_files_of_comfyui_of_another_shape_are_named(
    content: dict[Any, Any], file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {comfyui.POSITION_NET: {}, comfyui.SCALE_U: {}, comfyui.FUSERS: {}} | {file: content}
    monkeypatch.setattr(weight_files, "read", lambda path: held[path.name])
    with pytest.raises(ValueError, match=f"{file}: not as ComfyUI's users have it$"):
        comfyui.read(Path("some"))


@pytest.mark.parametrize("weight", [torch.zeros(3), SimpleNamespace(), None])
def test_weights_that_tell_no_size_are_no_openclips(weight: Any) -> None:
    weights = {} if weight is None else {"text_projection": weight}
    with pytest.raises(ValueError, match="^some: not the weights of an OpenCLIP"):
        open_clip.sizes(weights, SimpleNamespace(), "some")


@pytest.mark.parametrize("content", ["{", "[1]", "3"])
def test_settings_of_another_shape_are_named_where_they_matter(content: str, tmp_path: Path) -> None:
    path = written(tmp_path, content.encode())
    assert reading._has_layers(path) is False
    for read, says in (
        (reading._prediction, "not readable as settings in JSON"),
        (clip.preparation, "not an image processor's settings"),
        (unet.layers_config, "does not state the sizes of instance layers"),
    ):
        with pytest.raises(ValueError, match=f"file: {says}"):
            read(path)


@pytest.mark.parametrize("content", [{}, {"pictures": 3}, {"pictures": [{}]}, {"pictures": [3]}, []])
def test_a_record_of_another_shape_is_named(content: Any, tmp_path: Path) -> None:
    (tmp_path / provenance.RECORD).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"provenance\.json: no record of how pictures were drawn"):
        provenance.read(tmp_path)


@pytest.mark.parametrize("content", [{}, 3, {"annotations": 3}, {"annotations": [{}]}, {"annotations": [3]}])
def test_of_a_file_of_another_form_no_categories_are_used(content: Any) -> None:
    assert combinations._used(content) == set()


@pytest.mark.parametrize("record", [{}, {"image_id": None}, {"image_id": "x"}, {"image_id": 1e999}, 3])
def test_an_annotation_that_names_no_picture_keeps_its_fault(record: Any) -> None:
    fault = coco.Fault("annotations.0", "annotation 1", None, "bad_record", "some")
    assert coco._belonging(fault, [record], {7}) == fault
    assert coco._belonging(fault, [{"image_id": 7}], {7}).image_id == 7
    assert coco._belonging(fault, [{"image_id": 8}], {7}) == fault


@pytest.mark.parametrize(
    "error", [pa.ArrowInvalid("some"), OSError("some"), UnicodeDecodeError("utf-8", b"", 0, 1, "")]
)
def test_an_index_that_arrow_stumbles_over_is_named(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pa, "memory_map", failing(error))
    with pytest.raises(ValueError, match="file: not a readable index"):
        index.Index(written(tmp_path, b""))
