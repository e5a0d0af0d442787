"""Features of pictures and of crops of them, in batches that any executor runs and that outlive a kill.

Legend: N boxes, I pictures, D features.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from pydantic import PositiveInt

from eval.inputs.ground_truth import GroundTruth
from eval.inputs.pictures import Pictures, Pixels, Size, read
from eval.metrics.attributes import Judge
from eval.scoring.row import Params
from instdiff.layouts.geometry import crop
from instdiff.networks.device import Place
from instdiff.schema import Box, Strict
from instdiff.work import parts, resume
from instdiff.work.parts import Answer, Work

Floats = NDArray[np.float64]
FEATURES = pa.schema({"key": pa.string(), "features": pa.binary()})  # of a picture's views, float64, one after another


class FeatureExtractor(Protocol):
    """Pictures into features."""

    def image_features(self, pictures: Sequence[Pixels], /) -> ArrayLike:
        """(N, D)."""
        ...


class PreferenceModel(Protocol):
    """How well people like pictures for their prompts."""

    def scores(self, pictures: Sequence[Pixels], prompts: Sequence[str], /) -> Floats:
        """(N,)."""
        ...


class Judges(NamedTuple):
    """The networks that judge pictures: a CLIP, the feature extractors of distances, and models of preference."""

    judge: Judge
    features: FeatureExtractor  # of fid and kid
    digest: str  # of the folder they are from
    beside: Mapping[str, FeatureExtractor] = MappingProxyType({})  # of other distances, by their names
    preferences: Mapping[str, PreferenceModel] = MappingProxyType({})


class ExtractionParams(Strict):
    """How features are extracted: how many at once, on which device, by which executor."""

    batch_size: PositiveInt
    device: Place
    work: Work


class PictureCrops(NamedTuple):
    """A picture: the whole of it, or the crops of some boxes."""

    key: str
    path: Path
    stated: Size  # by the images table
    boxes: tuple[Box, ...] | None

    def views(self) -> list[Pixels]:
        """The pixels of the whole picture, or those of each crop."""
        pixels = read(self.path, self.stated)
        return [pixels] if self.boxes is None else [crop(pixels, box) for box in self.boxes]


@dataclass(frozen=True)
class FolderExtractor:
    """A network of a judge's folder, loaded by each process that needs it, so that it can be sent to others."""

    network: Literal["judge", "inception", "fd_dinov2", "cmmd"]
    digest: str
    folder: Path = field(compare=False)
    where: Place

    def image_features(self, pictures: Sequence[Pixels]) -> ArrayLike:
        """(N, D)."""
        features: ArrayLike = loaded(self).image_features(pictures)
        return features

    def text_features(self, texts: Sequence[str]) -> ArrayLike:
        """(M, D), of the judge."""
        features: ArrayLike = loaded(self).text_features(texts)
        return features


@lru_cache(maxsize=4)
def loaded(extractor: FolderExtractor) -> Any:
    """The network itself."""
    from instdiff.networks import clip, dinov2, inception

    where = extractor.where.settled()
    match extractor.network:
        case "judge":
            return clip.load(extractor.folder, where)
        case "inception":
            return inception.load(extractor.folder / inception.WEIGHTS, where)
        case "fd_dinov2":
            return dinov2.load(extractor.folder / extractor.network, where)
        case "cmmd":
            return clip.load(extractor.folder / extractor.network, where)


def load_judges(judge: Path, digest: str, params: Params) -> Judges:
    """The judges in a folder; ValueError names the folder of a network that params want and that is not there."""
    from instdiff.networks import preference

    names = ("judge", params.sets.features, *params.sets.beside)
    extractors = {name: FolderExtractor(name, digest, judge, params.device) for name in names}
    for extractor in extractors.values():
        loaded(extractor)
    where = params.device.settled()
    return Judges(
        extractors["judge"],
        extractors[params.sets.features],
        digest,
        {name: extractors[name] for name in params.sets.beside},
        {name: preference.load(judge / name, name, where) for name in params.preferences},
    )


@dataclass(frozen=True)
class ExtractFeatures:
    """Extracts the features of a batch."""

    extractor: FeatureExtractor

    def __call__(self, batch: Sequence[PictureCrops]) -> Iterator[Answer]:
        """A row a picture."""
        views = [view.views() for view in batch]
        features_ND = np.asarray(self.extractor.image_features([each for own in views for each in own]), np.float64)
        place = 0
        for view, own in zip(batch, views, strict=True):
            features = features_ND[place : place + len(own)].tobytes()
            place += len(own)
            yield Answer(view.key, [{"key": view.key, "features": features}], [])


def of_crops(truth: GroundTruth, pictures: Pictures, judges: Judges, params: Params) -> Floats:
    """(N, D): the judge's features of each instance's given box, cut from the picture judged."""
    places = truth.instances.groupby("picture", sort=False)["box"]
    views = [_view(pictures, int(str(place)), tuple(Box(*box) for box in boxes)) for place, boxes in places]
    batches: list[list[PictureCrops]] = []
    room = 0
    for view in views:
        if room <= 0:
            batches.append([])
            room = params.batch_size
        batches[-1].append(view)
        room -= len(view.boxes or ())
    return _features(batches, judges.judge, params, f"crops {pictures.digest} {truth.digests} {judges.digest}")


def of_pictures(
    pictures: Pictures, extractor: FeatureExtractor, judges: Judges, params: Params, distance: str | None = None
) -> Floats:
    """(I, D): features of the whole pictures, by the judge, or those of fid and kid or of another distance."""
    views = [_view(pictures, place, None) for place in range(len(pictures.keys))]
    batches = [views[start : start + params.batch_size] for start in range(0, len(views), params.batch_size)]
    by = distance or ("judge" if extractor is judges.judge else params.sets.features)
    return _features(batches, extractor, params, f"{by} {pictures.digest} {judges.digest}")


def _view(pictures: Pictures, place: int, boxes: tuple[Box, ...] | None) -> PictureCrops:
    return PictureCrops(pictures.keys[place], pictures.paths[place], pictures.stated[place], boxes)


def _features(
    batches: Sequence[Sequence[PictureCrops]], extractor: FeatureExtractor, params: Params, source: str
) -> Floats:
    settings = ExtractionParams(batch_size=params.batch_size, device=params.device, work=params.work)
    scratch = resume.folder(resume.digest(__name__, settings, source))
    seen = parts.cut_into(batches, ExtractFeatures(extractor), scratch, FEATURES, params.work)
    parts.make_all(seen, params.work)
    rows = parts.joined([part.rows() for part in seen], FEATURES).to_pylist()
    resume.clear(scratch)
    counts = [1 if view.boxes is None else len(view.boxes) for batch in batches for view in batch]
    flat = [np.frombuffer(row["features"]).reshape(count, -1) for row, count in zip(rows, counts, strict=True)]
    return np.concatenate(flat)
