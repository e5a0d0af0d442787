"""A bare machine brings a browser, or says in one line that it cannot."""

import shutil
from collections.abc import Iterator

import browser
import pytest


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    browser.executable.cache_clear()
    yield
    browser.executable.cache_clear()


def test_playwrights_own_is_brought_where_none_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[bool] = []
    monkeypatch.setattr(browser, "brought", lambda: there.append(True) or True)
    monkeypatch.setattr(browser, "starts", lambda _: bool(there))
    assert "chrom" in browser.chromium()
    assert browser.chromium() and there == [True]  # once


@pytest.mark.parametrize("is_brought", [False, True])
def test_where_none_can_be_brought_or_none_starts_the_test_is_skipped_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, is_brought: bool
) -> None:
    monkeypatch.setattr(browser, "brought", lambda: is_brought)
    monkeypatch.setattr(browser, "starts", lambda _: False)
    with pytest.raises(pytest.skip.Exception, match="needs Chromium: none is installed, and Playwright's own cannot"):
        browser.chromium()
