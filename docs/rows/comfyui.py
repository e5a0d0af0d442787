"""A ComfyUI workflow as a row of the table: layouts.json in, a picture a layout out.

    python docs/rows/comfyui.py LAYOUTS OUT SEED WORKFLOW.json [ADDRESS]

WORKFLOW.json is what ComfyUI exports by "Export (API)". Texts in it are filled for each layout: {prompt}, {layout} (the
whole layout as JSON), {seed} (alone in a text: a number), {phrases} (joined by " | "), and {phrase1}, {x1}, {y1},
{width1}, {height1}, {phrase2} ... for boxes in pixels of {size} a side. The pictures are those of its last SaveImage.
Imports nothing but Python's own library; the server runs at ADDRESS (http://127.0.0.1:8188).
"""

import json
import re
import sys
import time
import urllib.parse
import urllib.request
import zlib
from pathlib import Path
from typing import Any

SIZE = 512  # pixels a side, where the workflow says no other: "{size=1024}"
WAIT = 0.5  # seconds between two questions whether a picture is ready
PLACE = re.compile(r"\{(\w+)\}")
WHOLE = re.compile(r"\{(\w+)\}$")


def main(layouts: str, out: str, seed: str, workflow: str, address: str = "http://127.0.0.1:8188") -> None:
    """Queue every layout of the file and write its picture into the folder."""
    text = Path(workflow).read_text(encoding="utf-8")
    stated = re.search(r"\{size=(\d+)\}", text)
    size = int(stated[1]) if stated else SIZE
    graph = json.loads(text.replace(stated[0], "{size}") if stated else text)
    for layout in json.loads(Path(layouts).read_text(encoding="utf-8")):
        values = places(layout, zlib.crc32(f"{seed} {layout['key']}".encode()), size)
        picture = drawn(address.rstrip("/"), filled(graph, values))
        (Path(out) / f".{layout['key']}.png").write_bytes(picture)
        (Path(out) / f".{layout['key']}.png").rename(Path(out) / f"{layout['key']}.png")


def places(layout: dict[str, Any], seed: int, size: int) -> dict[str, Any]:
    """What the places in a workflow stand for, of one layout."""
    values: dict[str, Any] = {"prompt": layout["prompt"], "layout": json.dumps(layout), "seed": seed, "size": size}
    values["phrases"] = " | ".join(instance["phrase"] for instance in layout["instances"])
    for number, instance in enumerate(layout["instances"], start=1):
        x0, y0, x1, y1 = (round(edge * size) for edge in instance.get("box", (0, 0, 1, 1)))
        box = {"x": x0, "y": y0, "width": max(1, x1 - x0), "height": max(1, y1 - y0)}
        values |= {f"{name}{number}": value for name, value in {"phrase": instance["phrase"], **box}.items()}
    return values


def filled(node: Any, values: dict[str, Any]) -> Any:
    """The workflow with its places filled; an instance that the layout lacks leaves an empty text or a zero."""
    if isinstance(node, dict):
        return {name: filled(value, values) for name, value in node.items()}
    if isinstance(node, list):
        return [filled(value, values) for value in node]
    if not isinstance(node, str):
        return node
    alone = WHOLE.match(node)
    if alone:
        return values.get(alone[1], "" if alone[1].startswith("phrase") else 0)
    return PLACE.sub(lambda place: str(values.get(place[1], "" if place[1].startswith("phrase") else place[0])), node)


def drawn(address: str, graph: dict[str, Any]) -> bytes:
    """The picture's file, once the server has it."""
    name = sent(f"{address}/prompt", {"prompt": graph})["prompt_id"]
    while True:
        history = json.loads(received(f"{address}/history/{name}")).get(name)
        if history is None:
            time.sleep(WAIT)
            continue
        pictures = [image for node in history["outputs"].values() for image in node.get("images", ())]
        if not pictures:
            sys.exit(f"the workflow made no picture: {json.dumps(history.get('status'))[:400]}")
        query = urllib.parse.urlencode({part: pictures[-1][part] for part in ("filename", "subfolder", "type")})
        return received(f"{address}/view?{query}")


def sent(address: str, content: object) -> Any:
    """The reply to a JSON value."""
    request = urllib.request.Request(address, json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as reply:
        return json.loads(reply.read())


def received(address: str) -> bytes:
    """What is at an address."""
    with urllib.request.urlopen(address) as reply:
        return bytes(reply.read())


if __name__ == "__main__":
    main(*sys.argv[1:])
