from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from data_world import SEGMENT, contents, ledger, mask_iou, prepared, put, sources, tables
from data_world import pictures as pictures_in
from segment_anything import SamPredictor
from transformers import Sam2Model, Sam2Processor

from data_prep import segment
from data_prep.columns import INSTANCES, MASKS
from instdiff.files import tables as parquet
from instdiff.layouts import geometry, masks
from instdiff.networks import sam as networks
from instdiff.networks import sam_masks
from instdiff.networks.device import PLAIN
from instdiff.schema import Box, Rle
from instdiff.work.ledger import LEDGER

SIZES = networks.Sizes(
    image_size=64,
    patch_size=8,
    width=32,
    depth=2,
    num_heads=2,
    window_size=4,
    global_attention=(1,),
    prompt_width=32,
    mask_width=4,
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sam")
    networks.save(networks.build(SIZES), SIZES, folder)
    return folder


def segmented(root: Path, weights: Path, batch_size: int, backend: str = "sam") -> Mapping[str, float]:
    to = {**tables(root, "train", "instances", "masks"), "ledger": ledger(root, "segment")}
    params = SEGMENT.model_copy(update={"backend": backend, "weights": weights, "batch_size": batch_size})
    return segment.run(**sources(root), **to, params=params)


@pytest.mark.parametrize("backend", ["sam", "sam2"])
def test_a_batch_of_pictures_gives_the_masks_of_one_at_a_time(tmp_path: Path, weights: Path, backend: str) -> None:
    prepared(tmp_path)
    by_batch_size = {}
    folder = weights if backend == "sam" else tiny_models.sam2(tmp_path / "sam2")
    for batch_size in (1, 3):
        counts = segmented(tmp_path, folder, batch_size, backend)
        by_batch_size[batch_size] = parquet.read(tmp_path / "masks" / "train", MASKS)
        assert counts["failed"] == 0
    assert by_batch_size[1]["mask"].tolist() == by_batch_size[3]["mask"].tolist()
    assert np.allclose(by_batch_size[1]["score"], by_batch_size[3]["score"], atol=1e-5)


@pytest.mark.parametrize("backend", ["sam", "sam2"])
@pytest.mark.parametrize("max_boxes", [1, 2, 5])
def test_no_more_boxes_are_decoded_at_once_and_how_many_changes_no_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path, backend: str, max_boxes: int
) -> None:
    folder = weights if backend == "sam" else tiny_models.sam2(tmp_path / "sam2")
    pixels = [
        np.random.default_rng(n).integers(0, 256, (*size, 3), np.uint8) for n, size in enumerate(((64, 96), (80, 64)))
    ]
    edges = np.sort(np.random.default_rng(2).uniform(0, 1, (5, 2, 2)), axis=1)
    boxes = [[Box(*edge.ravel()) for edge in some] for some in (edges[:3], edges[3:])]
    model = segment._model(backend, folder, max_boxes, PLAIN)
    decoded: list[int] = []
    if backend == "sam":
        decode = networks.decoded

        def watched(sam: Any, embeddings: torch.Tensor, box_batch: torch.Tensor) -> Any:
            decoded.append(len(box_batch))
            return decode(sam, embeddings, box_batch)

        monkeypatch.setattr(networks, "decoded", watched)
    else:
        model._model.register_forward_pre_hook(
            lambda _, args, named: decoded.append(named["input_boxes"].shape[1]), with_kwargs=True
        )
    filled = model.fill(pixels, boxes)
    groups = [5] if backend == "sam" else [3, 2]  # of all pictures, or of one
    assert decoded == [
        size
        for count in groups
        for size in [max_boxes] * (count // max_boxes) + [count % max_boxes] * bool(count % max_boxes)
    ]
    monkeypatch.undo()
    for image, image_boxes, masks_of_one in zip(pixels, boxes, filled, strict=True):
        assert len(masks_of_one) == len(image_boxes)
        for box, (mask, score) in zip(image_boxes, masks_of_one, strict=True):
            assert mask.shape == image.shape[:2]
            (((alone, alone_score),),) = segment._model(backend, folder, 9, PLAIN).fill([image], [[box]])
            assert mask_iou(mask, alone) > 0.99 or not (mask.any() or alone.any())
            assert np.isclose(score, alone_score, atol=1e-4)


def test_masks_are_those_of_segment_anythings_own_predictor(tmp_path: Path, weights: Path) -> None:
    prepared(tmp_path)
    segmented(tmp_path, weights, 4)
    ours = parquet.read(tmp_path / "masks" / "train", MASKS)
    boxes = parquet.read(tmp_path / "instances" / "train", INSTANCES)["box"]
    pictures = pictures_in(tmp_path)
    predictor = SamPredictor(sam_masks.load(weights))
    for row, box in zip(ours.to_dict("records"), boxes, strict=True):
        picture = pictures[row["key"]]
        predictor.set_image(picture.pixels())
        edges = np.array(geometry.in_pixels(Box(*box), picture.height, picture.width))
        (theirs,), (score,), _ = predictor.predict(box=edges, multimask_output=False)
        mask = masks.decode(Rle(size=(picture.height, picture.width), counts=row["mask"]))
        assert mask_iou(mask, theirs) > 0.99
        assert np.isclose(score, row["score"], atol=1e-4)


def test_masks_are_those_of_transformers_own_sam2(tmp_path: Path) -> None:
    prepared(tmp_path)
    folder = tiny_models.sam2(tmp_path / "sam2")
    segmented(tmp_path, folder, 4, "sam2")
    ours = parquet.read(tmp_path / "masks" / "train", MASKS)
    boxes = parquet.read(tmp_path / "instances" / "train", INSTANCES)["box"]
    pictures = pictures_in(tmp_path)
    model, processor = Sam2Model.from_pretrained(folder).eval(), Sam2Processor.from_pretrained(folder)
    for row, box in zip(ours.to_dict("records"), boxes, strict=True):
        picture = pictures[row["key"]]
        edges = list(geometry.in_pixels(Box(*box), picture.height, picture.width))
        inputs = processor(images=picture.pixels(), input_boxes=[[edges]], return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs, multimask_output=False)
        (theirs,) = processor.post_process_masks(outputs.pred_masks, inputs.original_sizes)
        mask = masks.decode(Rle(size=(picture.height, picture.width), counts=row["mask"]))
        assert mask_iou(mask, theirs[0, 0].numpy()) > 0.99
        assert np.isclose(outputs.iou_scores.item(), row["score"], atol=1e-4)


def test_an_unreadable_picture_costs_only_its_own_instances(tmp_path: Path, weights: Path) -> None:
    prepared(tmp_path)
    put(tmp_path, {"train-mixed-000001": b"no picture"})
    counts = segmented(tmp_path, weights, 3)
    rows = parquet.read(tmp_path / "masks" / "train", MASKS)
    assert rows[rows["mask"].isna()]["key"].unique().tolist() == ["train-mixed-000001"]
    lost = parquet.read(ledger(tmp_path, "segment"), LEDGER)
    assert counts["failed"] == counts["failed_unreadable_picture"] == len(lost) == rows["mask"].isna().sum()
    assert lost["detail"].str.contains("train-mixed-000001.png").all()


def test_a_run_again_writes_the_same_bytes(tmp_path: Path, weights: Path) -> None:
    prepared(tmp_path)
    segmented(tmp_path, weights, 2)
    before = contents(tmp_path / "masks")
    segmented(tmp_path, weights, 2)
    assert contents(tmp_path / "masks") == before


def test_weights_of_something_else_are_named(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth: not the weights of a released SAM"):
        sam_masks.load(tmp_path / "other.pth")


@pytest.mark.parametrize("backend", ["sam", "sam2"])
def test_sam_needs_weights(tmp_path: Path, backend: str) -> None:
    with pytest.raises(ValueError, match=f"{backend} needs weights"):
        segment.segmenter(SEGMENT.model_copy(update={"backend": backend}), tmp_path, "")
