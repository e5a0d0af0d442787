"""Records of real pictures: each loads its picture when its turn comes.

A place may be a local path or an fsspec URL (s3://...). A record that cannot be read is a Failure.
"""

import base64
import binascii
import gzip
import io
import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import fsspec

from instdiff.files.texts import decoded, json_of
from instdiff.work.outcomes import Failure

MAX_PICTURE = 1 << 30  # bytes of a compressed member, unpacked


class Annotation(NamedTuple):
    """An instance as a source writes it, not yet checked."""

    name: str  # what the source calls it, to say which one was wrong
    category: str | None
    bbox: Any  # x, y, width, height in pixels
    segmentation: Any  # polygons, or run lengths compressed or not
    caption: str | None
    crowd: bool


class Loaded(NamedTuple):
    """What a record holds."""

    encoded: bytes
    caption: str
    size: tuple[int, int] | None  # width, height that the annotations were made for
    annotations: tuple[Annotation | Failure, ...]  # a failure: one whose record could not be read


class Record(Protocol):
    """One picture of a source; its name is unique in the source but for true repetitions."""

    @property
    def name(self) -> str:
        """Where it is from."""
        ...

    def load(self) -> Loaded | Failure:
        """Read it."""
        ...


@dataclass(frozen=True)
class Wrong:
    """A record of a list that is none."""

    name: str
    failure: Failure

    def load(self) -> Failure:
        """What is wrong with it."""
        return self.failure


@dataclass(frozen=True)
class File:
    """A picture in a file of its own."""

    name: str
    url: str
    caption: str
    size: tuple[int, int] | None = None
    annotations: tuple[Annotation | Failure, ...] = ()

    def load(self) -> Loaded | Failure:
        """Read the file."""
        try:
            return Loaded(read(self.url), self.caption, self.size, self.annotations)
        except (OSError, ValueError) as error:
            return unreadable(self.url, error)


@dataclass(frozen=True)
class Captioned(File):
    """A picture whose caption is in a file beside it."""

    def load(self) -> Loaded | Failure:
        """Read both; `caption` is the text's address."""
        try:
            encoded, text = read(self.url), read(self.caption)
        except (OSError, ValueError) as error:
            return unreadable(self.name, error)
        try:
            return Loaded(encoded, decoded(text).strip(), None, ())
        except ValueError as error:
            return Failure("bad_text", f"{self.caption}: {error}")


@dataclass(frozen=True)
class Member:
    """A picture inside a tar, read without reading the rest."""

    name: str
    url: str
    offset: int
    length: int
    caption: str
    compressed: bool = False  # by gzip

    def load(self) -> Loaded | Failure:
        """Read its bytes."""
        try:
            with fsspec.open(self.url, "rb") as tar:
                tar.seek(self.offset)
                encoded = tar.read(self.length)
            if self.compressed:
                with gzip.open(io.BytesIO(encoded)) as stream:
                    encoded = stream.read(MAX_PICTURE)
            return Loaded(encoded, self.caption, None, ())
        except (OSError, ValueError, EOFError, zlib.error) as error:
            return unreadable(self.name, error)


@dataclass(frozen=True)
class Label:
    """One of the reference's own label_*.json: picture in base64, instances with box, mask and caption."""

    name: str
    url: str

    def load(self) -> Loaded | Failure:
        """Read the file; its embeddings are left: they are computed again from the texts."""
        try:
            written = json_of(read(self.url), self.url)
            encoded = base64.b64decode(written["image"], validate=True)
            annotations = tuple(
                Annotation(
                    f"anno {number}",
                    text_of(anno.get("category_name")),
                    anno["bbox"],
                    anno.get("mask"),
                    text_of(anno.get("caption")),
                    False,
                )
                for number, anno in enumerate(written["annos"])
            )
            caption = "" if written["caption"] is None else written["caption"]
            if not isinstance(caption, str):
                return Failure("bad_record", f"{self.url}: caption: {caption!r} is not text")
            return Loaded(encoded, caption.strip(), None, annotations)
        except (OSError, binascii.Error) as error:
            return unreadable(self.url, error)
        except KeyError as error:
            return Failure("bad_record", f"{self.url}: the field {error} is missing")
        except (ValueError, TypeError, AttributeError) as error:
            return Failure("bad_record", f"{self.url}: not a label file ({error})")


def read(url: str) -> bytes:
    """The bytes of a file or URL; OSError, too, where the store's package is not installed."""
    try:
        with fsspec.open(url, "rb") as stream:
            content: bytes = stream.read()
            return content
    except ImportError as error:
        raise OSError(str(error)) from error


def unreadable(where: str, error: Exception) -> Failure:
    """The failure of something that could not be read."""
    reason = "missing_file" if isinstance(error, FileNotFoundError) else "unreadable_file"
    return Failure(reason, f"{where}: {error}")


def text_of(value: Any) -> str | None:
    """The value if it is text that says something, without white space around it."""
    return value.strip() if isinstance(value, str) and value.strip() else None
