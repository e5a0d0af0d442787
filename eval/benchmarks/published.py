"""What the paper states in its Table 1 and its table of attributes, and between which numbers a run is held to agree.

Values of the paper's figure of COCO val2017. A band holds the paper's value and those that others measured with the
same weights: of average precision and recall 2 either way, 1 of real pictures; of attributes what was measured. The
others have none. AP, AR and PiM are in hundredths, CLIP scores and FID as they are.
"""

from typing import NamedTuple


class PaperCell(NamedTuple):
    """One number of the paper's tables."""

    table: str
    method: str  # the row, as the paper names it
    column: str
    metric: str | None  # of ours, None where the paper's is not defined well enough to be measured
    published: float
    band: tuple[float, float] | None
    rows: tuple[tuple[str, str, str], ...]  # reading, ground truth and row of ours that it is held against
    per_picture: bool = False  # the reference's mean: over the instances of a picture, then over pictures


COLUMNS = {  # column -> metric, and what it is multiplied by to be as the paper prints it
    "AP box": ("box_ap", 100.0),
    "AP50 box": ("box_ap50", 100.0),
    "AR box": ("box_ar", 100.0),
    "FID": ("fid", 1.0),
    "AP mask": ("mask_ap", 100.0),
    "AP50 mask": ("mask_ap50", 100.0),
    "AR mask": ("mask_ar", 100.0),
    "PiM point": ("pim_paper_point", 100.0),
    "PiM scribble": ("pim_paper_scribble", 100.0),
    "colour": ("colour_accuracy", 100.0),
    "texture": ("texture_accuracy", 100.0),
    "CLIP": ("clip_local", 1.0),
}
Columns = dict[str, tuple[float, tuple[float, float] | None]]
REAL: Columns = {
    "AP box": (50.2, (47.4, 51.2)),  # others measured 48.4 at this size; 50.2 and 40.8 are scores of two detectors
    "AP50 box": (66.7, (64.2, 67.7)),
    "AR box": (61.0, None),
    "AP mask": (40.8, None),
    "AP50 mask": (63.5, None),
    "AR mask": (58.0, None),
}
BOX: Columns = {
    "AP box": (38.8, (36.8, 42.1)),
    "AP50 box": (55.4, (53.4, 59.2)),
    "AR box": (52.9, (50.9, 55.2)),
    "FID": (23.9, None),
}
MASK: Columns = {
    "AP mask": (27.1, (25.1, 29.1)),
    "AP50 mask": (50.0, (48.0, 52.0)),
    "AR mask": (38.1, (36.1, 40.1)),
    "FID": (25.5, None),
}
HYBRID: Columns = {
    "AP box": (44.6, (42.6, 46.6)),
    "AP50 box": (59.6, (57.6, 61.6)),
    "AR box": (58.8, (56.8, 60.8)),
    "FID": (25.5, None),
    "PiM point": (86.0, None),
}
POINT: Columns = {"PiM point": (81.1, None), "FID": (27.5, None)}
SCRIBBLE: Columns = {"PiM scribble": (72.4, None), "FID": (27.3, None)}
HYBRID_SCRIBBLE: Columns = {"PiM scribble": (82.9, None), "FID": (26.4, None)}
COLOUR: Columns = {"colour": (54.4, (53.3, 55.2)), "CLIP": (0.250, (0.243, 0.250))}
TEXTURE: Columns = {"texture": (26.8, (26.1, 26.9)), "CLIP": (0.225, (0.222, 0.226))}

OURS, REFERENCE = "ours", "reference"
TABLE_1, ATTRIBUTES = "Table 1", "Attributes"


def _cells(
    table: str,
    method: str,
    truth: str,
    columns: Columns,
    ours: str,
    reference: str | None,
    *,
    per_picture: bool = False,
) -> list[PaperCell]:
    """The cells of one row of the paper's tables, and which rows of ours are held against them."""
    rows = [(OURS, truth, ours), *([] if reference is None else [(REFERENCE, truth, reference)])]
    return [
        PaperCell(table, method, column, COLUMNS[column][0], value, band, tuple(rows), per_picture)
        for column, (value, band) in columns.items()
    ]


CELLS: tuple[PaperCell, ...] = (  # the reference's file for masks keeps boxes and points, and is its README's hybrid
    *_cells(TABLE_1, "real images", "plain", REAL, "real", None),
    *_cells(TABLE_1, "InstanceDiffusion, boxes", "plain", BOX, "box", "reference_box"),
    *_cells(TABLE_1, "InstanceDiffusion, masks", "plain", MASK, "mask", "reference_mask"),
    PaperCell(TABLE_1, "InstanceDiffusion, masks", "IoU", None, 61.6, None, ()),
    *_cells(TABLE_1, "InstanceDiffusion, points", "plain", POINT, "point", "reference_point"),
    *_cells(TABLE_1, "InstanceDiffusion, scribbles", "plain", SCRIBBLE, "scribble", None),
    *_cells(TABLE_1, "InstanceDiffusion (hybrid)", "plain", HYBRID, "hybrid", "reference_mask"),
    *_cells(TABLE_1, "InstanceDiffusion (hybrid), scribbles", "plain", HYBRID_SCRIBBLE, "hybrid", "reference_scribble"),
    *_cells(ATTRIBUTES, "InstanceDiffusion, colours", "colour", COLOUR, "box", "reference_box", per_picture=True),
    *_cells(ATTRIBUTES, "InstanceDiffusion, textures", "texture", TEXTURE, "box", "reference_box", per_picture=True),
)
