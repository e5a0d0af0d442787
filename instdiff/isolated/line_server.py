"""Runs in an environment of its own and imports nothing of ours: one JSON line a question, one a reply.

    python line_server.py IN OUT MODEL.py ARGUMENTS...     (IN, OUT: numbers of open file descriptors)

MODEL.py defines `load(*arguments)`, which returns an object with `hello`, a mapping that is the first line written, and
`answer(question)`, which returns a mapping. What it raises is the reply {"error": ..., "out_of_memory": ...}.
"""

import json
import os
import runpy
import sys
from typing import Any


def main() -> None:
    """Answer until the input ends."""
    questions, replies = os.fdopen(int(sys.argv[1])), os.fdopen(int(sys.argv[2]), "w")

    def write(**reply: Any) -> None:
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    model = runpy.run_path(sys.argv[3])["load"](*sys.argv[4:])
    write(**model.hello)
    for line in questions:
        try:
            write(**model.answer(json.loads(line)))
        except Exception as error:  # whatever it was, the other side decides what it costs
            kind = type(error).__name__
            write(error=f"{kind}: {error}", out_of_memory=kind in {"OutOfMemoryError", "MemoryError"})


if __name__ == "__main__":
    del sys.path[0]  # this file's folder: its modules are none of the environment's
    main()
