"""One page that shows prepared data: samples with their layouts, counts, what was dropped, duplicates, empty captions.

All is counted in one pass; then the pictures that are shown are read, and those that are compared.
"""

import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from data_prep.exchange.sample import Sample
from data_prep.pages import duplicates, tally
from data_prep.pages.drops import Reason
from data_prep.pages.tally import Tally
from data_prep.prepared import Prepared
from instdiff.layouts import geometry, html, overlay
from instdiff.layouts.formats import FORMATS
from instdiff.progress import track
from instdiff.schema import Instance, Strict

TEMPLATE = Path(__file__).with_name("look.html.j2")
HISTOGRAMS = {  # of the tally -> heading, bins
    "instances": ("Instances of a picture", tally.COUNTS),
    "boxes": ("Share of the picture that a box covers", tally.SHARES),
    "captions": ("Words of a picture's caption", tally.WORDS),
    "phrases": ("Words of an instance's phrase", tally.WORDS),
    "sides": ("Shorter side of a picture, in pixels", tally.SIDES),
}


class LookParams(Strict):
    """How much the page shows, and what it takes for a duplicate or for an empty caption."""

    seed: int  # of the pictures that are shown and compared
    num_samples: NonNegativeInt  # pictures drawn from all
    num_each_category: NonNegativeInt  # pictures of each of the categories shown, if the draw from all has fewer
    num_categories: PositiveInt  # shown, the commonest first
    num_examples: NonNegativeInt  # of each reason, of duplicates and of short captions
    max_side: PositiveInt  # pixels of a picture on the page
    num_compared: NonNegativeInt  # pictures compared with each other by how they look
    alike: NonNegativeFloat  # levels of 255: root mean square of the differences of 16 x 16 greys, at most
    short_caption: NonNegativeInt  # words: captions of so many or fewer are listed


class Place(NamedTuple):
    """An instance of a picture that is params."""

    phrase: str
    category: str
    shade: str  # its colour, as CSS writes it
    lines: Markup  # SVG


class Card(NamedTuple):
    """A picture that is shown, and what the filters ask of it."""

    key: str
    caption: str
    width: int
    height: int
    uri: str
    places: tuple[Place, ...]
    categories: tuple[str, ...]
    sizes: tuple[str, ...]  # of its instances
    num_instances: str  # the bin that their number falls into
    formats: tuple[str, ...]


class Group(NamedTuple):
    """Pictures that are the same, or look so."""

    num_pictures: int
    cards: tuple[Card, ...]  # of the first of them


class Page(NamedTuple):
    """The page, and what a stage says of it."""

    text: str
    counts: dict[str, int]


def page(prepared: Prepared, reasons: Sequence[Reason], title: str, params: LookParams) -> Page:
    """Count, choose, read and render."""
    totals = tallied(prepared, params)
    samples = _chosen(totals, params)
    same = totals.same_files()
    compared = [draw.place for draw in totals.draws()[: params.num_compared]]
    cards = {place: _card(sample, params.max_side) for place, sample in prepared.samples(set(samples))}
    near, num_compared = _near(prepared, compared, params.alike, same)
    groups = {
        "same": _groups(prepared, same[: params.num_examples], params),
        "near": _groups(prepared, near[: params.num_examples], params),
    }
    counts = {
        "pictures": totals.pictures,
        "instances": totals.instances,
        "without_instances": totals.histograms["instances"]["0"],
        "categories": len(totals.categories),
        "short_captions": totals.short_captions,
        "short_phrases": totals.short_phrases,
        "same_files": sum(len(group) - 1 for group in same),
        "compared": num_compared,
        "look_alike": sum(len(group) - 1 for group in near),
    }
    content = {
        "title": title,
        "counts": counts,
        "params": params,
        "cards": [cards[place] for place in samples],
        "filters": _filters(list(cards.values())),
        "categories": totals.categories.most_common(params.num_categories),
        "others": _others(totals, params),
        "formats": [(name, totals.located[name]) for name in FORMATS],
        "histograms": [
            (heading, [(label, totals.histograms[name][label]) for label, _ in bins])
            for name, (heading, bins) in HISTOGRAMS.items()
        ],
        "reasons": reasons,
        "groups": groups,
        "short": totals.examples,
    }
    return Page(html.page(TEMPLATE, content), counts)


def tallied(prepared: Prepared, params: LookParams) -> Tally:
    """Count all of it."""
    totals = Tally(
        params.seed,
        max(params.num_samples, params.num_compared),
        params.num_each_category,
        params.short_caption,
        params.num_examples,
    )
    pictures = 0
    for chunk in track(prepared.chunks(), prepared.num_pictures, "pictures"):
        totals.add(chunk)
        pictures += len(chunk.images)
    if not pictures:
        raise ValueError("there is no picture to look at")
    return totals


def _chosen(totals: Tally, params: LookParams) -> list[int]:
    """Places of the pictures that are shown: those drawn from all, then those drawn from each category."""
    places = [draw.place for draw in totals.draws()[: params.num_samples]]
    for category, _ in totals.categories.most_common(params.num_categories):
        places += [draw.place for draw in totals.draws_of(category)]
    return list(dict.fromkeys(places))


def _near(
    prepared: Prepared, places: Sequence[int], most: float, same: Sequence[Sequence[int]]
) -> tuple[list[list[int]], int]:
    """Groups of pictures that look alike and are not the same file, by place, and how many were compared.

    Of the same file one is compared; a picture that cannot be read is not.
    """
    first_of = {place: group[0] for group in same for place in group}
    thumbnails = []
    read: dict[int, None] = {}  # places, in order
    for place, sample in track(prepared.samples(set(places)), len(places), "pictures"):
        first = first_of.get(place, place)
        if first in read:
            continue
        with suppress(ValueError):
            thumbnails.append(duplicates.thumbnail(sample.encoded))
            read[first] = None
    order = list(read)
    return [[order[number] for number in group] for group in duplicates.alike(thumbnails, most)], len(order)


def _groups(prepared: Prepared, groups: Sequence[Sequence[int]], params: LookParams) -> list[Group]:
    wanted = {place for group in groups for place in group[: params.num_examples]}
    cards = {place: _card(sample, params.max_side) for place, sample in prepared.samples(wanted)}
    return [Group(len(group), tuple(cards[place] for place in group[: params.num_examples])) for group in groups]


def _card(sample: Sample, max_side: int) -> Card:
    instances = sample.layout.instances
    with Image.open(io.BytesIO(sample.encoded)) as image:
        uri = html.data_uri(np.asarray(image.convert("RGB")), max_side)
    boxes = [instance.box for instance in instances if instance.box is not None]
    return Card(
        sample.key,
        sample.layout.prompt,
        sample.width,
        sample.height,
        uri,
        tuple(_place(number, instance) for number, instance in enumerate(instances)),
        tuple(dict.fromkeys(instance.category or "" for instance in instances)),
        tuple(dict.fromkeys(tally.label_of(geometry.clamp(box).area, tally.SIZES) for box in boxes)),
        tally.label_of(len(instances), tally.COUNTS),
        tuple(name for name in FORMATS if any(getattr(instance, name) is not None for instance in instances)),
    )


def _place(number: int, instance: Instance) -> Place:
    red, green, blue = overlay.colour(number)
    return Place(instance.phrase, instance.category or "", f"rgb({red}, {green}, {blue})", html.overlay([instance]))


def _filters(cards: Sequence[Card]) -> dict[str, list[str]]:
    """Filter -> what may be chosen, of what the pictures have."""
    present: dict[str, set[str]] = {
        "category": {name for card in cards for name in card.categories if name},
        "size": {name for card in cards for name in card.sizes},
        "instances": {card.num_instances for card in cards},
        "format": {name for card in cards for name in card.formats},
    }
    order: dict[str, Sequence[str]] = {
        "category": sorted(present["category"]),
        "size": [label for label, _ in tally.SIZES],
        "instances": [label for label, _ in tally.COUNTS],
        "format": FORMATS,
    }
    return {name: [label for label in labels if label in present[name]] for name, labels in order.items()}


def _others(totals: Tally, params: LookParams) -> dict[str, Any]:
    """The categories that the table leaves out: how many, and of how many instances."""
    left = totals.categories.most_common()[params.num_categories :]
    return {"categories": len(left) + totals.rare, "instances": sum(count for _, count in left) + totals.rare}
