"""A Chromium for the tests: the system's, else Playwright's own, brought once; else tests that need it are skipped."""

import fcntl
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 180_000  # milliseconds


def chromium() -> str:
    """The program; the test is skipped where there is none. All such skips are one line of pytest's summary."""
    program = executable()
    if program is None:
        pytest.skip("needs Chromium: none is installed, and Playwright's own cannot be brought or does not start here")
    return program


@functools.cache
def executable() -> str | None:
    """The program, or None where there is none and none can be brought, or nothing could drive it."""
    try:
        with sync_playwright() as playwright:
            own = playwright.chromium.executable_path
    except Exception:  # what drives it is a program of Node, which lacks a library (libatomic) on the barest machines
        return None
    system = next(filter(None, map(shutil.which, NAMES)), None)
    if system is not None:
        return system
    with alone():  # another process of the tests may bring it at this moment
        return own if starts(own) or (brought() and starts(own)) else None


def brought() -> bool:
    """Have Playwright download its own."""
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    try:
        return subprocess.run(command, capture_output=True, timeout=600, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def starts(program: str) -> bool:
    """Whether it runs here: a bare machine may lack libraries that it needs."""
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "about:blank"]
    try:
        return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@contextmanager
def alone() -> Iterator[None]:
    """One process of this person's at a time."""
    with (Path(tempfile.gettempdir()) / f"instdiff-browser-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def opened(width: int = 1280, height: int = 1000, **how: Any) -> Iterator[Page]:
    """An empty tab; `asked_of(tab)` says what its pages ask for."""
    program = chromium()
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        tab = browser.new_context(viewport={"width": width, "height": height}, **how).new_page()
        tab.set_default_timeout(PATIENCE)
        yield tab
        browser.close()


def asked_of(tab: Page) -> set[str]:
    """Hosts that requests from the tab go to, filled as they go; what a page holds in itself is no request."""
    hosts: set[str] = set()

    def note(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"data", "blob", "file"}:
            hosts.add(parts.hostname or url)

    tab.on("request", lambda request: note(request.url))
    tab.on("websocket", lambda socket: note(socket.url))
    return hosts
