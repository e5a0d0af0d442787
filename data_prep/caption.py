"""caption: say what each instance looks like.   instances -> captions"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any, Literal, Protocol

from pydantic import field_validator

from data_prep.annotators import Failure, Ledger, Picture, outcomes, pictures_of
from instdiff import stage, tables
from instdiff.progress import track
from instdiff.schema import CAPTIONS, GIVEN, IMAGES, INSTANCES, Box, Strict

WORDS = ("colour", "texture", "category")


class Params(Strict):
    """Who says it, and how."""

    backend: Literal["template"]
    template: str  # may name {colour}, {texture} and {category}
    batch_size: int  # instances at once

    @field_validator("template")
    @classmethod
    def _names_what_is_known(cls, template: str) -> str:
        unknown = {name for _, name, _, _ in Formatter().parse(template) if name is not None} - set(WORDS)
        if unknown:
            raise ValueError(f"no such word: {', '.join(sorted(unknown))}; there are {', '.join(WORDS)}")
        return template


@dataclass(frozen=True)
class Subject:
    """One instance to describe."""

    picture: Picture
    index: int
    category: str | None
    box: Box


class Captioner(Protocol):
    """Whoever describes instances: a template, BLIP, BLIP-2, LAVIS, ...

    `name` says which, with its revision, and is recorded with every caption.
    """

    name: str

    def caption(self, batch: Sequence[Subject]) -> list[str | Failure]:
        """A phrase for each instance."""
        ...


class Template:
    """Puts the words the source knows into a sentence."""

    name = "template"

    def __init__(self, template: str, given: Path) -> None:
        self._template = template
        self._needs = [name for _, name, _, _ in Formatter().parse(template) if name]
        self._rows = {(row["key"], row["index"]): row for row in tables.read(given, GIVEN).to_dict("records")}

    def caption(self, batch: Sequence[Subject]) -> list[str | Failure]:
        """The template, filled for each instance."""
        return [self._filled(subject) for subject in batch]

    def _filled(self, subject: Subject) -> str | Failure:
        row: dict[Any, Any] = self._rows.get((subject.picture.key, subject.index), {})
        words = {"colour": row.get("colour"), "texture": row.get("texture"), "category": subject.category}
        for name in self._needs:
            if words[name] is None:
                return Failure(f"no_{name}", f"the template needs a {name} and the source gives none")
        return self._template.format(**words)


def run(
    *, pictures: Path, images: Path, given: Path, instances: Path, captions: Path, ledger: Path, params: Params
) -> dict[str, int]:
    """From instances to captions; one row an instance, its caption null where none could be made."""
    known = {picture.key: picture for picture in pictures_of(pictures, tables.read(images, IMAGES))}
    todo = [
        Subject(known[row["key"]], row["index"], row["category"], Box(*map(float, row["box"])))
        for row in tables.read(instances, INSTANCES).to_dict("records")
        if row["key"] in known
    ]
    captioner: Captioner = Template(params.template, given)
    rows: list[dict[str, object]] = []
    failed = Ledger()
    for one, caption in track(outcomes(todo, captioner.caption, params.batch_size), len(todo), "instances"):
        place = {"key": one.picture.key, "index": one.index}
        if isinstance(caption, Failure):
            failed.add(one.picture.key, one.index, caption)
            rows.append({**place, "caption": None, "backend": None})
        else:
            rows.append({**place, "caption": caption, "backend": captioner.name})
    failed.write(ledger)
    return {"instances": tables.write(captions, rows, CAPTIONS), "failed": len(failed.rows), **failed.counts()}


if __name__ == "__main__":
    stage.main(run)
