"""Find a layout file's instances in any pictures: `instdiff detect --pictures DIR --layouts FILE --out FILE`.

The same finders as the stage `detect`: YOLO on its classes, GroundingDINO, MM-GroundingDINO or OWLv2 on the layouts'
categories, with SAM's masks where a marker is chosen. The file is what `instdiff evaluate --detections` reads.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from eval import detect, evaluate, finder_options
from eval.inputs import ground_truth_files
from eval.inputs.pictures import find


def main(arguments: Sequence[str]) -> None:
    """Detect, write the file, and say how much was found."""
    args = parser().parse_args(arguments)
    params = finder_options.with_options(evaluate.read_settings(args.params, args.size).detect, args)
    truth = ground_truth_files.read(args.layouts, args.images, args.size)
    pictures = find(args.pictures, truth.images, params.square)
    counts = detect.detected(args.out, pictures, truth.instances, args.detector, params)
    print(f"{args.out}: {counts['detections']} detections in {counts['pictures']} pictures")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="instdiff detect", description=main.__doc__)
    add = options.add_argument
    add("--pictures", type=Path, required=True, help="the folder of pictures, one a layout, named by key")
    add("--layouts", type=Path, required=True, help="layouts or COCO annotations (JSON), or the annotated table")
    add("--images", type=Path, help="the table of images that goes with an annotated table")
    add("--out", type=Path, required=True, help="the file of detections to write (JSON)")
    add("--size", type=int, help="pixels a side of the pictures, where it is not the layouts'")
    add("--params", type=Path, default=Path("params.yaml"), help="the values: finders, thresholds")
    finder_options.add_options(options)
    return options
