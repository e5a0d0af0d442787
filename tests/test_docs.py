"""Pages made from code say what the code says, and every command and page they name is there."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def _writer() -> ModuleType:
    spec = spec_from_file_location("write", ROOT / "docs" / "write.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["configuration.md", "graph.md"])
def test_a_page_made_from_code_is_up_to_date(page: str) -> None:
    content = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert content == _writer().PAGES[page](), "write it anew: .venv/bin/python docs/write.py"


def test_no_value_is_without_a_meaning() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\S+)` \|.*\|([^|]*)\|$", page, re.MULTILINE)
    assert len(rows) > 200
    assert [name for name, meaning in rows if not meaning.strip()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_links_only_to_files_that_exist(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
