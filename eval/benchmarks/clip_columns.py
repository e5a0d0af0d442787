"""CLIP scores beside the measures of every benchmark, where a CLIP judges: `instdiff bench score ... --judge FOLDER`.

Legend: T texts.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from eval.benchmarks.benchmark import Benchmark, Measure, Value
from eval.benchmarks.case import Case
from eval.benchmarks.view import View
from eval.metrics import clip_score
from eval.metrics.clip_score import Floats
from instdiff.layouts.geometry import crop

PICTURE, INSTANCE = "clip", "clip_local"
MEASURES = {
    PICTURE: Measure("CLIP", "cosine of the picture and its prompt; others state 100 times it", of="picture"),
    INSTANCE: Measure("CLIP of crops", "cosine of the crop of an instance's box and its phrase", headline=False),
}


def added(benchmark: Benchmark) -> Benchmark:
    """The benchmark with these measures after its own."""

    def measure(case: Case, view: View) -> Iterable[Value]:
        yield from benchmark.measure(case, view)
        if view.has("judge"):
            yield from values(case, view)

    return replace(benchmark, measures={**benchmark.measures, **MEASURES}, measure=measure)


def values(case: Case, view: View) -> Iterable[Value]:
    """The cosines of a picture and of its instances with boxes; 0 where there is no picture."""
    boxes = {index: instance.box for index, instance in enumerate(case.instances) if instance.box is not None}
    texts = [case.prompt, *(case.instances[index].phrase for index in boxes)]

    def cosines_T() -> Floats:
        pixels = view.pixels()
        images = [pixels, *(crop(pixels, box) for box in boxes.values())]
        return clip_score.cosines(np.asarray(view.judge.image_features(images), np.float64), texts, view.judge)

    whole, *crops = [0.0] * len(texts) if view.absent else view.once("clip", cosines_T).tolist()
    yield Value(PICTURE, -1, whole)
    for index, cosine in zip(boxes, crops, strict=True):
        yield Value(INSTANCE, index, cosine)
