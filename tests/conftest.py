"""The order of the tests: what takes minutes starts first, so that two workers end together."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files marked slow first; `--dist loadfile --no-loadscope-reorder` hands files out in this order."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
