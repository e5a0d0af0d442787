"""The columns of the table of scores: one instance of the pictures of one row, judged."""

import pyarrow as pa

from instdiff.files.tables import columns, with_columns
from instdiff.layouts.columns import BOX

SCORES = with_columns(
    columns(row=pa.string(), key=pa.string(), index=pa.int32(), group=pa.string(), category=pa.string()),
    colour=pa.string(),
    texture=pa.string(),
    box=BOX,  # as the layout has it
    area=pa.float64(),  # share of the picture that the given mask covers, or the box where no mask is given
    box_iou=pa.float64(),  # with the best detection of the own category; 0: none
    mask_iou=pa.float64(),
    overlap=pa.string(),  # how much the given box overlaps another: a stratum of eval/metrics/overlap.py
    overlap_iou=pa.float64(),  # how well the overlaps with others are kept; null: the box overlaps none
    detection_score=pa.float64(),  # of the best detection by box
    pim_point=pa.float64(),  # share of the record's own stroke covered; 0: no detection, null: no stroke
    pim_scribble=pa.float64(),
    judged_colour=pa.string(),
    judged_texture=pa.string(),
    judged_shape=pa.string(),
    leak=pa.bool_(),  # judged to have a neighbour's colour; null: no neighbour of another colour
    clip_local=pa.float64(),  # cosine of the judge's features of the given box's crop and of the phrase
)
