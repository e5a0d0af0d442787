"""instdiff push-shards: copy a folder of shards to a store, so that it is there whole or not yet there.

The index goes last: who reads shards begins with it. What a broken push left is found by its hash and not sent again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec

from instdiff.data.index import INDEX_FILE, Index
from instdiff.files import provenance
from instdiff.options import Parser
from instdiff.progress import track

NOTE = ".sha256"  # beside a file that is there whole


def main(arguments: Sequence[str]) -> None:
    """Send what is not there yet."""
    options = Parser(prog="instdiff push-shards", description=__doc__)
    options.add_argument("folder", type=Path, help="what the stage shard wrote")
    options.add_argument("url", help="s3://bucket/folder, or any address that fsspec knows")
    args = options.parse_args(arguments)
    sent = push(args.folder, args.url)
    print(f"{args.url}: {sent} files sent")


def push(folder: Path, url: str) -> int:
    """Send the shards that are missing or other there, then the index; return how many files were sent."""
    system, root = fsspec.url_to_fs(url)
    system.makedirs(root, exist_ok=True)
    names = (*sorted(set(Index(folder / INDEX_FILE).shards)), INDEX_FILE)
    digests = {name: provenance.of_file(folder / name) for name in names}
    todo = [name for name, digest in digests.items() if _noted(system, f"{root}/{name}") != digest]
    if todo and system.exists(f"{root}/{INDEX_FILE}"):  # it is of other shards
        system.rm_file(f"{root}/{INDEX_FILE}")
        todo = [name for name in todo if name != INDEX_FILE] + [INDEX_FILE]
    for name in track(todo, len(todo), "files"):
        if system.exists(f"{root}/{name}{NOTE}"):
            system.rm_file(f"{root}/{name}{NOTE}")
        system.put_file(str(folder / name), f"{root}/{name}")
        system.pipe_file(f"{root}/{name}{NOTE}", digests[name].encode())
    return len(todo)


def _noted(system: Any, path: str) -> str | None:
    """The hash noted beside a file when it was complete."""
    if not (system.exists(path) and system.exists(f"{path}{NOTE}")):
        return None
    return str(system.cat_file(f"{path}{NOTE}").decode())
