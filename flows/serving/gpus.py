"""GPUs as slots: a Prefect concurrency limit says how many stages may hold one, this process says which.

The limit is shared by all flows that talk to one server about one machine.
"""

import os
import platform
import queue
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency

LIMIT = f"gpu-{platform.node()}"
LEASE = 60.0  # seconds until the server frees what a killed flow held; the least it accepts


@cache
def visible() -> tuple[str, ...]:
    """The GPUs stages take turns on; where there is none, every stage that would use one runs on the CPU."""
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return tuple(gpu for gpu in chosen.split(",") if gpu)
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ()
    return tuple(str(place) for place in range(len(listed.stdout.splitlines())))


def create_limit() -> None:
    """Make the limit, or bring it to the number of GPUs there are; without a GPU there is nothing to limit."""
    if visible():
        with get_client(sync_client=True) as client:
            client.upsert_global_concurrency_limit_by_name(LIMIT, len(visible()))


@contextmanager
def held(wanted: int) -> Iterator[dict[str, str]]:
    """Wait for that many GPUs, or all there are; yield the environment that shows a stage these and no others."""
    number = min(wanted, len(visible()))
    if not number:
        yield {}
        return
    with concurrency(LIMIT, occupy=number, lease_duration=LEASE, strict=True):
        mine = [_free().get() for _ in range(number)]
        try:
            yield {"CUDA_VISIBLE_DEVICES": ",".join(mine)}
        finally:
            for gpu in mine:
                _free().put(gpu)


@cache  # made on first use: a served flow is pickled, and a lock cannot be
def _free() -> queue.SimpleQueue[str]:
    free: queue.SimpleQueue[str] = queue.SimpleQueue()
    for gpu in visible():
        free.put(gpu)
    return free
