"""GPUs go round among the processes of a pool, however many there are."""

from multiprocessing import Value

import pytest

from instdiff.work import workers


@pytest.mark.parametrize(("visible", "expected"), [("4,7", "47474"), ("2", "22222"), ("a,b,c", "abcab")])
def test_processes_take_gpus_in_turn_and_begin_again(
    visible: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, gpus = Value("i", 0), []
    for _ in range(5):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        workers._take_gpu(taken)  # type: ignore[arg-type]  # a synchronised number
        gpus.append(workers.os.environ["CUDA_VISIBLE_DEVICES"])
    assert "".join(gpus) == expected
    assert taken.value == 5


def test_where_all_gpus_are_hidden_none_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    workers._take_gpu(Value("i", 0))  # type: ignore[arg-type]
    assert workers.os.environ["CUDA_VISIBLE_DEVICES"] == ""
