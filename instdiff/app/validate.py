"""instdiff validate: every fault of layout files by record and field, and what will be read otherwise than written."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from instdiff.formats import RELEASED
from instdiff.layouts import files


def main(arguments: Sequence[str]) -> None:
    """Print faults and remarks; exit code 1 if there is a fault."""
    parser = argparse.ArgumentParser(prog="instdiff validate", description=__doc__)
    parser.add_argument("layouts", type=Path, nargs="+", help="JSON files, ours or in the form of the released demos")
    parser.add_argument("--max-instances", type=int, default=RELEASED.max_instances, help="slots of the model")
    options = parser.parse_args(arguments)
    checked = [files.check(path, max_instances=options.max_instances) for path in options.layouts]
    for one in checked:
        for fault in one.faults:
            print(f"fault   {_line(fault)}")
        for remark in one.remarks:
            print(f"remark  {_line(remark)}")
    faults = sum(len(one.faults) for one in checked)
    print(f"{sum(len(one.layouts) for one in checked)} layouts can be drawn, {faults} faults")
    sys.exit(1 if faults else 0)


def _line(told: str) -> str:
    """On one line, whatever characters the file holds."""
    return told.encode("ascii", "backslashreplace").decode().replace("\n", " ")
