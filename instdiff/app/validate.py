"""instdiff validate: every fault of layout files by record and field, and what will be read otherwise than written."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instdiff.files.texts import counted
from instdiff.layouts import files, remarks
from instdiff.layouts.formats import RELEASED
from instdiff.options import Parser, whole


def main(arguments: Sequence[str]) -> None:
    """Print faults and remarks; exit code 1 if there is a fault."""
    parser = Parser(prog="instdiff validate", description=__doc__)
    parser.add_argument("layouts", type=Path, nargs="+", help="JSON files, ours or in the form of the released demos")
    parser.add_argument("--instance", type=Path, help="instance layers, which state their slots for instances")
    parser.add_argument(
        "--max-instances", type=whole(1), help="the same by number; by default that of the released weights"
    )
    parser.add_argument("--height", type=whole(1), default=512, help="of the pictures that will be drawn, in pixels")
    parser.add_argument("--width", type=whole(1), default=512)
    parser.add_argument("--tokenizer", type=Path, help="folder of the text encoder's tokenizer, to count what it reads")
    options = parser.parse_args(arguments)
    size, slots = (options.height, options.width), options.max_instances
    if slots is None:
        slots = RELEASED.max_instances if options.instance is None else of_layers(options.instance)
    checked = [files.check(path, max_instances=slots, shape=size) for path in options.layouts]
    tokens = remarks.words if options.tokenizer is None else tokenizer(options.tokenizer)
    for path, file in zip(options.layouts, checked, strict=True):
        for layout in file.layouts:
            file.remarks += [f"{path}: {layout.key}: {remark}" for remark in remarks.of_texts(layout, tokens)]
    for file in checked:
        for fault in file.faults:
            print(f"fault   {line(fault)}")
        for remark in file.remarks:
            print(f"remark  {line(remark)}")
    faults = sum(len(file.faults) for file in checked)
    print(f"{counted(sum(len(file.layouts) for file in checked), 'layout')} can be drawn, {counted(faults, 'fault')}")
    sys.exit(1 if faults else 0)


def of_layers(path: Path) -> int:
    """How many instances some layers have room for."""
    from instdiff.checkpoints import reading

    return reading.stated(path).slots


def tokenizer(folder: Path) -> remarks.Tokens:
    """The tokens of a text, as the tokenizer of a folder counts them."""
    from transformers import CLIPTokenizer

    return readable(CLIPTokenizer.from_pretrained(folder, local_files_only=True))


def readable(tokenizer: Any) -> remarks.Tokens:
    """Tokens as a person reads them."""
    return lambda text: [token.replace("</w>", "") for token in tokenizer.tokenize(text)]


def line(sentence: str) -> str:
    """On one line, whatever characters the file holds."""
    return sentence.encode("ascii", "backslashreplace").decode().replace("\n", " ")
