"""Texts and JSON files that people bring, read by one rule.

A text is UTF-8, with or without a byte order mark, or UTF-16 with one. JSON may also be UTF-16 or UTF-32 without a
mark, as its standard allows, and one value a line. Bytes that are not text are an error, never a replacement character.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_BEGINNINGS = {  # what a file of another kind begins with, and what to do about it
    b"version https://git-lfs": "it is a pointer of Git LFS: `git lfs pull` brings the file itself",
    b"<": "it begins like a web page (HTML), not like JSON",
    b"\x1f\x8b": "it is compressed: unpack it first",
    b"PK\x03\x04": "it is a zip archive: unpack it first",
}


def decoded(content: bytes) -> str:
    """The text of these bytes; ValueError names the first byte that is not text."""
    return _decoded(content, "utf-16" if content.startswith(_UTF16_MARKS) else "utf-8-sig")


def is_text(text: str) -> bool:
    """Whether the text can be stored: JSON can spell a lone surrogate, which is half a character."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_json(path: Path) -> Any:
    """The content of a JSON file; ValueError names the file, and says where and why it cannot be read."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ValueError(f"{path}: not a readable JSON file (no such file)") from error
    except IsADirectoryError as error:
        raise ValueError(f"{path}: not a readable JSON file (it is a folder)") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        raise ValueError(f"{path}: not a readable JSON file ({error})") from error
    return json_of(content, str(path))


def json_of(content: bytes, where: str) -> Any:
    """The content of JSON bytes; of several values, one a line, a list. ValueError begins with `where`."""
    try:
        text = _decoded(content, json.detect_encoding(content))
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":
                raise
            return _of_lines(text, error)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not a readable JSON file ({_why(content, error)})") from error


def one_line(error: Exception) -> str:
    """What a library says of a fault, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def counted(number: int, noun: str) -> str:
    """`1 layout`, `2 layouts`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def quoted(error: ErrorDetails) -> str:
    """One fault of a record that pydantic found: the field, and what is wrong with it."""
    place = ".".join(map(str, error["loc"])) or "the whole"
    return f"{place}: {error['msg'].removeprefix('Value error, ')}"


def first_fault(error: ValidationError) -> str:
    """The first fault of a record that pydantic refused."""
    return quoted(error.errors()[0])


def _decoded(content: bytes, encoding: str) -> str:
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        byte = f"0x{content[error.start]:02x}" if error.start < len(content) else "at its end"
        raise ValueError(f"byte {error.start} ({byte}) is not {name}: save the file as UTF-8") from error
    if "\0" in text:
        raise ValueError("it holds NUL characters: is it UTF-16 without a byte order mark? save it as UTF-8")
    return text


def _of_lines(text: str, error: json.JSONDecodeError) -> list[Any]:
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError:
        raise error from None


def _why(content: bytes, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if not content.strip():
        return "it is empty"
    for beginning, meaning in _BEGINNINGS.items():
        if content.lstrip().startswith(beginning):
            return meaning
    if not isinstance(error, json.JSONDecodeError):
        return one_line(error)
    at = f"line {error.lineno}, column {error.colno}"
    before, after = error.doc[: error.pos].rstrip(), error.doc[error.pos :].lstrip()
    if before.endswith(",") and after[:1] in ("]", "}"):
        return f"{at}: a comma stands before the closing {after[0]}"
    return f"{at}: {error.msg}"
