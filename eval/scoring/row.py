"""One row of the table: the values it is scored with, what it is judged on, and where that comes from."""

from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple

from pydantic import PositiveInt

from eval.inputs import detections, ground_truth, pictures
from instdiff.files import provenance
from instdiff.networks.device import Place
from instdiff.schema import Share, Strict
from instdiff.work.parts import Work

REAL = "real"
NONE = "none"
RECONSTRUCTED = "reconstructed"
SEED = "@"  # between a row's name and that of one of its seeds
MAX_SIZES = 10  # sizes of pictures, in provenance
SCRIBBLE = "scribble"  # protocols that end so have their headline PiM from scribbles, the others from points


DISTANCES = ("fd_dinov2", "cmmd")
PREFERENCES = ("pickscore", "hps")


class DistanceParams(Strict):
    """How two sets of pictures are compared (fid, kid, ...); a number without it means nothing."""

    features: Literal["judge", "inception"]  # of fid and kid; inception: `inception.pth` in the judge's folder
    beside: tuple[Literal["fd_dinov2", "cmmd"], ...]  # further distances, by networks in folders of these names there
    num_resamples: PositiveInt  # bootstrap draws of distances, which cost more than other metrics
    kid_subsets: PositiveInt  # drawn, whose mean is kid
    kid_subset_size: PositiveInt  # pictures


class Params(Strict):
    """Values of the stage."""

    seed: int  # of bootstrap draws and subsets
    square: int | None  # as in detect
    min_score: Share  # of a detection that counts for an instance; average precision uses all of them
    num_resamples: PositiveInt  # bootstrap draws
    num_resamples_parts: PositiveInt  # the same for parts of the whole: a group, a category, a size
    sizes: dict[str, tuple[float, float]]  # of instances -> areas in square pixels, both ends within
    leak_groups: tuple[str, ...]  # groups of layouts that colour leak is measured on; empty: all
    words: dict[str, tuple[str, ...]]  # of colour, texture, shape: what the judge chooses from; one left out: unjudged
    templates: dict[str, tuple[str, ...]]  # phrases an attribute's words are judged by, e.g. "a {colour} {shape}"
    batch_size: PositiveInt  # crops or pictures the judge sees at once
    sets: DistanceParams
    preferences: tuple[Literal["pickscore", "hps"], ...]  # columns by CLIPs in folders of these names in the judge's
    device: Place  # of the judge and of Inception
    work: Work


class Inputs(NamedTuple):
    """What a row is judged on."""

    truth: ground_truth.GroundTruth
    pictures: pictures.Pictures
    real: pictures.Pictures | None  # None: not at hand, so that nothing is compared with them
    detections: detections.Detections

    @property
    def has_masks(self) -> bool:
        """Whether both ground truth and detections have masks."""
        return self.truth.has_masks and self.detections.has_masks


def checked(row: str, inputs: Inputs) -> Inputs:
    """The inputs of a row that may be scored.

    ValueError for real pictures in another row than `real`, or what looks like them in another than `reconstructed`,
    for others in `real`, for one picture under two names, and for detections that state other pictures than these.
    """
    if row == REAL:
        if inputs.real is not None and inputs.pictures.digest != inputs.real.digest:
            raise ValueError("row 'real' must judge the real pictures, and these are others")
    else:
        pictures.refuse_duplicates(inputs.pictures)
        if inputs.real is not None and row != RECONSTRUCTED:
            pictures.refuse_real(inputs.pictures, inputs.real)
    stated = inputs.detections.provenance.get("pictures", "nothing")
    if stated is not None and stated != inputs.pictures.digest:
        raise ValueError("the detections were made on other pictures than these: run detect again")
    return inputs


def sources(row: str, inputs: Inputs, judge: str | None, params: Params) -> dict[str, object]:
    """What the numbers come from: hashes of everything judged, judging or held against; `judge` is the judge's."""
    return {
        "row": row,
        "pictures": inputs.pictures.digest,
        "num_pictures": len(inputs.pictures.keys),
        "drawn_by": provenance.read(inputs.pictures.paths[0].parent),
        "real_pictures": None if inputs.real is None else inputs.real.digest,
        **inputs.truth.digests,
        "remarks": list(inputs.truth.remarks),
        "detections": inputs.detections.digest,
        "detected_by": dict(inputs.detections.provenance),
        "judge": judge,
        "sets": _sets(inputs, params.sets),
        "settings": params.model_dump(mode="json", exclude={"work"}),
        "versions": provenance.versions(),
    }


def _sets(inputs: Inputs, recipe: DistanceParams) -> Mapping[str, object] | None:
    """What distances compare: features, counts, and formats and sizes on both sides, which move them."""
    if inputs.real is None:
        return None
    sides = {"pictures": inputs.pictures, "real": inputs.real}
    return {"features": recipe.features} | {
        name: {
            "count": len(side.keys),
            "formats": dict(sorted(Counter(path.suffix.lower() for path in side.paths).items())),
            "sizes": {f"{width}x{height}": n for (height, width), n in sorted(Counter(side.sizes).items())[:MAX_SIZES]},
        }
        for name, side in sides.items()
    }
