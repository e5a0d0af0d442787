"""What holds for every test: the longest start first, a busy machine fails no property, none share scratch."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from instdiff.work import resume

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files marked slow first; `--dist loadfile --no-loadscope-reorder` hands files out in this order."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session", autouse=True)
def _scratch_of_this_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests that stand in the repository keep half-done work apart from those of the other process."""
    own, folder = tmp_path_factory.getbasetemp() / "half-done", resume.folder

    def apart(digest: str) -> Path:
        return own / digest if Path.cwd() == ROOT else folder(digest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "folder", apart)
        yield
