"""What holds for every test: the longest start first, and no property fails because the machine is busy."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files marked slow first; `--dist loadfile --no-loadscope-reorder` hands files out in this order."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
