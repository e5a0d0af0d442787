"""What is submitted at a time: a part where processes stay, and as many as a job holds where each job begins one."""

import itertools
from pathlib import Path
from typing import NamedTuple

import pytest
from data_world import WORK, WORKERS
from hypothesis import given
from hypothesis import strategies as st

from data_prep.columns import INSTANCES
from instdiff.work import parts


class Item(NamedTuple):
    key: str


def nothing(items: object) -> list[parts.Answer]:
    return []


def batches(sizes: list[int]) -> list[parts.Part]:
    held = [[Item(f"{place}-{number}") for number in range(size)] for place, size in enumerate(sizes)]
    return parts.cut_into(held, nothing, Path("to"), INSTANCES, WORK)


def work(executor: str, part_size: int) -> parts.Work:
    workers = WORKERS.model_copy(update={"executor": executor})
    return WORK.model_copy(update={"part_size": part_size, "workers": workers})


@given(st.lists(st.integers(1, 9), max_size=20), st.integers(1, 20))
def test_a_job_is_parts_in_a_row_of_no_more_pictures_than_it_may_have(sizes: list[int], part_size: int) -> None:
    whole = batches(sizes)
    jobs = parts.jobs_of(whole, work("slurm", part_size))
    assert [part for job in jobs for part in job] == whole
    for job in jobs:
        assert job
        assert len(job) == 1 or sum(len(part.items) for part in job) <= part_size
    for job, after in itertools.pairwise(jobs):
        assert sum(len(part.items) for part in (*job, after[0])) > part_size


@pytest.mark.parametrize("executor", ["processes", "dask"])
def test_processes_that_stay_get_a_part_at_a_time(executor: str) -> None:
    whole = batches([3, 1, 2])
    assert parts.jobs_of(whole, work(executor, 100)) == [(part,) for part in whole]
