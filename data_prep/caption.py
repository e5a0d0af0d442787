"""caption: say what each instance looks like.   instances -> captions"""

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from string import Formatter
from typing import Any, Literal, Protocol

from pydantic import PositiveInt, field_validator

from data_prep.annotators import instances as instances_of
from data_prep.annotators.crops import Crops, ModelParams
from data_prep.annotators.instances import Instance, WithInstances
from data_prep.columns import CAPTIONS, GIVEN_CAPTIONED
from instdiff import stage
from instdiff.files import tables
from instdiff.files.provenance import fingerprint
from instdiff.schema import Strict
from instdiff.work import packs, resume
from instdiff.work.outcomes import Failure, outcomes
from instdiff.work.packs import Output, Pack
from instdiff.work.parts import Answer, Execution

WORDS = ("colour", "texture", "category")


class Params(Strict):
    """Who says it, and how."""

    backend: Literal["template", "given", "transformers", "lavis"]  # who says it; template fills words in
    template: str  # may name {colour}, {texture} and {category}
    batch_size: PositiveInt  # instances at once, whatever pictures they are from
    model: ModelParams | None  # of transformers and lavis
    work: Execution

    @field_validator("template")
    @classmethod
    def _names_what_is_known(cls, template: str) -> str:
        unknown = {name for _, name, _, _ in Formatter().parse(template) if name is not None} - set(WORDS)
        if unknown:
            raise ValueError(f"no such word: {', '.join(sorted(unknown))}; there are {', '.join(WORDS)}")
        return template


class Captioner(Protocol):
    """Whoever describes instances: a template, the source, BLIP, BLIP-2, LAVIS, ..."""

    def caption(self, batch: Sequence[Instance]) -> list[tuple[str, str] | Failure]:
        """A phrase for each instance and who says it: the backend with its revision."""
        ...


class Template:
    """Puts the words the source knows into a sentence."""

    def __init__(self, template: str, given: Path) -> None:
        self._template = template
        self._needs = [name for _, name, _, _ in Formatter().parse(template) if name]
        self._rows = instances_of.given_by(given)

    def caption(self, batch: Sequence[Instance]) -> list[tuple[str, str] | Failure]:
        """The template, filled for each instance."""
        return [self._filled(instance) for instance in batch]

    def _filled(self, instance: Instance) -> tuple[str, str] | Failure:
        row = self._rows.get((instance.picture.key, instance.index))
        colour, texture = (row["colour"], row["texture"]) if row else (None, None)
        words = {"colour": colour, "texture": texture, "category": instance.category}
        for name in self._needs:
            if words[name] is None:
                return Failure(f"no_{name}", f"the template needs a {name} and the source gives none")
        return self._template.format(**words), "template"


class FromSource:
    """Takes the source's own word for it."""

    def __init__(self, given: Path) -> None:
        rows = tables.read(given, GIVEN_CAPTIONED).to_dict("records")
        self._captions = {(row["key"], row["index"]): row["caption"] for row in rows}

    def caption(self, batch: Sequence[Instance]) -> list[tuple[str, str] | Failure]:
        """The source's caption of each instance."""
        texts = [self._captions.get((instance.picture.key, instance.index)) for instance in batch]
        return [Failure("no_caption", "the source gives none") if text is None else (text, "given") for text in texts]


def captioner(params: Params, given: Path, digest: str) -> Captioner:
    """The backend that params name, for the pack whose part of GIVEN this is."""
    match params.backend:
        case "template":
            return Template(params.template, given)
        case "given":
            return FromSource(given)
        case "transformers" | "lavis":
            return _model(params, digest)


@lru_cache(maxsize=1)
def _model(params: Params, _digest: str) -> Captioner:
    """The network, kept for the packs that follow."""
    if params.model is None:
        raise ValueError(f"backend {params.backend} needs model")
    if params.backend == "lavis":
        from data_prep.annotators.lavis_client import Lavis

        return Crops(Lavis(params.model), params.model)
    from data_prep.annotators.blip import Blip

    return Crops(Blip(params.model), params.model)


def caption(todo: Sequence[WithInstances], pack: Pack, params: Params, digest: str) -> Iterator[Answer]:
    """The captions of each picture's instances, null where none could be made."""
    subjects = [instance for picture in todo for instance in picture.instances]
    captions = outcomes(subjects, captioner(params, pack.parts["given"], digest).caption, params.batch_size)
    for key, of_picture in groupby(captions, lambda pair: pair[0].picture.key):
        results = [(instance.index, _columns(caption)) for instance, caption in of_picture]
        yield instances_of.answer(key, results, {"caption": None, "backend": None})


def _columns(caption: tuple[str, str] | Failure) -> dict[str, Any] | Failure:
    return caption if isinstance(caption, Failure) else {"caption": caption[0], "backend": caption[1]}


def run(
    *, pictures: Path, images: Path, given: Path, instances: Path, captions: Path, ledger: Path, params: Params
) -> dict[str, int]:
    """From instances to captions; one row an instance, its caption null where none could be made."""
    all_packs = packs.of(images=images, given=given, instances=instances)
    weights = [] if params.model is None else [fingerprint(params.model.weights)]
    digest = resume.digest(__name__, params, *weights)
    todo, annotate = partial(instances_of.of_pack, pictures=pictures), partial(caption, params=params, digest=digest)
    return packs.annotated(
        all_packs, todo, annotate, Output(captions, CAPTIONS, ledger, "caption"), digest, params.work
    )


if __name__ == "__main__":
    stage.main(run)
