"""Answers that are kept: a folder of Parquet files, one a batch: nothing is asked twice, and a kill loses nothing.

`pandas.read_parquet(folder)` reads all of it. A file appears only when it is complete; when there are many, they are
joined into one, and a kill between leaves the same answers twice, which reading does not mind.
"""

import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa

from instdiff.files import tables
from instdiff.files.tables import columns
from instdiff.work.ledger import utf8

ANSWERS = columns(
    picture=pa.string(),  # SHA-256 of size and pixels
    region=pa.string(),  # left, top, right, bottom in fractions, as JSON; empty: the whole picture
    question=pa.string(),
    judge=pa.string(),
    settings=pa.string(),
    answer=pa.string(),
)
KEY = ANSWERS.names[:-1]
MOST_FILES = 64  # that are read one by one before they are joined

Key = tuple[str, str, str, str, str]  # picture, region, question, judge, settings


class Answers:
    """Answers by (picture, region, question, judge, settings)."""

    def __init__(self, folder: Path) -> None:
        """Read a folder; ValueError names the file that is no table of answers."""
        self.folder = folder
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder}: is a file, where a folder of answers is expected")
        files = sorted(folder.glob("*.parquet"))
        parts = [tables.read(path, ANSWERS) for path in files]
        self._answers: dict[Key, str] = {}
        for path, part in zip(files, parts, strict=True):
            if part.isna().to_numpy().any():
                raise ValueError(f"{path}: an answer or a part of its key is null")
            self._answers |= dict(zip(part[KEY].itertuples(index=False, name=None), part["answer"], strict=True))
        if len(files) > MOST_FILES:
            self._write(self._answers)
            for path in files:
                path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._answers)

    def __contains__(self, key: Key) -> bool:
        return key in self._answers

    def __getitem__(self, key: Key) -> str:
        return self._answers[key]

    def add(self, answers: Mapping[Key, str]) -> None:
        """Keep these; once this returns, no kill loses them."""
        texts = {key: utf8(answer) for key, answer in answers.items()}
        if texts:
            self._write(texts)
            self._answers |= texts

    def _write(self, answers: Mapping[Key, str]) -> None:
        """A file of its own, under a name that no other process takes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = _rows(answers.items())
        tables.write(self.folder / f"{os.getpid()}-{uuid.uuid4().hex}.parquet", rows, ANSWERS)


def _rows(answers: Iterable[tuple[Key, str]]) -> pd.DataFrame:
    return pd.DataFrame([(*key, answer) for key, answer in answers], columns=ANSWERS.names)
