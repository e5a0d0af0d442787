"""Take the screenshots of docs/tutorial.md: `python docs/screenshots.py TREE --values "experiment=smoke ..."`.

TREE is a clone that has run and compared an experiment, such as `make hour SMALL=1` leaves; the values are those of its
run. It needs Chromium. `--look FOLDER` writes every page to look at instead: light and dark, wide and narrow.
"""

import argparse
import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from PIL import Image
from playwright.sync_api import Page as Tab
from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent
SHIPPED = DOCS.parent / "weights" / "miniature"
WIDE, NARROW = (1200, 900), (390, 844)
PATIENCE = 600  # seconds that a server or a run may take
COLOURS = 128  # of a screenshot: pages have few, and files are small


def written(tab: Tab, path: Path, *, full: bool = False) -> None:
    """A screenshot with few colours."""
    with Image.open(io.BytesIO(tab.screenshot(full_page=full))) as image:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


@contextmanager
def served(command: list[str], tree: Path) -> Iterator[str]:
    """A server of ours; the address that it says to open."""
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        lines = (re.search(r"http://\S+", line) for line in process.stdout)
        yield next(match[0] for match in lines if match)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def free() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def draw_a_layout(tab: Tab) -> None:
    """Two instances and a picture on the page where layouts are drawn."""
    tab.get_by_label("Prompt").fill("a red glass ring and a yellow rubber heart on a plain background")
    for kind, phrase, path in (
        ("Box", "a red glass ring", [(0.08, 0.1), (0.48, 0.5)]),
        ("Scribble", "a yellow rubber heart", [(0.55, 0.55), (0.7, 0.8), (0.85, 0.55)]),
    ):
        tab.locator("#kinds label", has_text=kind).click()
        canvas = tab.locator("#canvas")
        canvas.scroll_into_view_if_needed()
        frame = canvas.bounding_box()
        assert frame is not None
        places = [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in path]
        tab.mouse.move(*places[0])
        tab.mouse.down()
        for place in places[1:]:
            tab.mouse.move(*place, steps=8)
        tab.mouse.up()
        tab.get_by_label("Phrase of instance").last.fill(phrase)
        tab.get_by_label("Phrase of instance").last.press("Enter")
    tab.get_by_role("button", name="Draw", exact=True).click()
    tab.locator("#pictures img").nth(1).wait_for()
    tab.evaluate("scrollTo(0, 0)")


def run_in(tab: Tab, overrides: list[str], entrance: str) -> None:
    """The page of a run of `rebuild` with these overrides, once it has ended."""
    origin, _, token = entrance.partition("/enter#")
    headers = {
        "Authorization": f"Basic {base64.b64encode(token.encode()).decode()}",
        "Content-Type": "application/json",
    }

    def ask(path: str, content: Any = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        with urlopen(Request(f"{origin}/api{path}", body, headers), timeout=60) as reply:  # noqa: S310 - this machine
            return json.loads(reply.read())

    deployment = until(lambda: ask("/deployments/name/instdiff/rebuild"))
    experiments = [word.removeprefix("experiment=") for word in overrides if word.startswith("experiment=")]
    rest = [word for word in overrides if not word.startswith("experiment=")]
    values = {"experiment": (experiments or ["default"])[0], "overrides": rest}
    run = ask(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": values})
    until(lambda: ask(f"/flow_runs/{run['id']}")["state_type"] in {"COMPLETED", "FAILED"} or None)
    tab.goto(f"{origin}/runs/flow-run/{run['id']}")
    tab.wait_for_timeout(8000)  # what it draws names nothing to wait for


def until(answer: Any) -> Any:
    """The first answer that is one."""
    begun = time.monotonic()
    while True:
        try:
            if (value := answer()) is not None:
                return value
        except OSError:
            pass
        if time.monotonic() - begun > PATIENCE:
            raise TimeoutError
        time.sleep(1)


def main() -> None:
    """Write the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--values", default="", help="overrides of the tree's run")
    parser.add_argument("--look", type=Path, help="write every page here, light and dark, wide and narrow")
    parser.add_argument("--only", choices=["drawing", "pages", "run"])
    options = parser.parse_args()
    tree, to = options.tree.resolve(), options.look or DOCS
    ways = (
        [(WIDE, "light")]
        if options.look is None
        else [(size, how) for size in (WIDE, NARROW) for how in ("light", "dark")]
    )
    python = str(tree / ".venv" / "bin" / "python")
    page = [python, "-m", "instdiff", "page", "--ckpt", str(SHIPPED), "--instance", str(SHIPPED / "instance")]
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])

        def each(name: str) -> Iterator[tuple[Tab, Path]]:
            for (width, height), scheme in ways:
                shape = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
                tab = browser.new_context(**shape).new_page()
                tab.set_default_timeout(PATIENCE * 1000)
                yield tab, to / (f"{name}-{width}-{scheme}.png" if options.look else f"{name}.png")
                tab.close()

        if options.only in (None, "drawing"):
            with served([*page, "--port", str(free())], tree) as address:
                for tab, path in each("drawing"):
                    tab.goto(address)
                    draw_a_layout(tab)
                    written(tab, path, full=options.look is not None)
        if options.only in (None, "pages"):
            for name in ("report", "compare"):
                for tab, path in each(name):
                    tab.goto((tree / f"{name}.html").as_uri())
                    tab.wait_for_load_state()
                    written(tab, path, full=options.look is not None)
        if options.only in (None, "run"):
            with served([python, "-m", "flows.serve", "--port", str(free())], tree) as address:
                for tab, path in each("run"):
                    tab.goto(address)
                    tab.wait_for_url("**/dashboard")
                    run_in(tab, options.values.split(), address)
                    written(tab, path)


if __name__ == "__main__":
    main()
