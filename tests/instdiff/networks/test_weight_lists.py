"""What is said of weights that do not fit, and which exceed a precision."""

import pytest
import torch
from torch import nn

from instdiff.networks import loading


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "nothing"),
        (1, "1 (0)"),
        (8, "8 (0, 1, 2, 3, 4, 5, 6, 7)"),
        (9, "9 (0, 1, 2, 3, 4, 5, 6, 7 and 1 more)"),
    ],
)
def test_eight_names_are_listed_and_that_there_are_more(count: int, expected: str) -> None:
    assert loading.listed(str(number) for number in reversed(range(count))) == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_a_weight_exceeds_half_precision_above_its_largest_number_on_either_side(sign: int) -> None:
    limit = torch.finfo(torch.float16).max
    weights = {"at": torch.tensor([0.0, sign * limit]), "above": torch.tensor([0.0, sign * (limit + 32)])}
    assert loading.exceeding(weights, torch.float16) == ["above"]
    assert loading.exceeding(weights, torch.bfloat16) == loading.exceeding(weights, torch.float32) == []


def test_numbers_that_are_whole_none_or_half_already_exceed_nothing() -> None:
    weights = {
        "whole": torch.tensor([10**9]),
        "none": torch.zeros(0),
        "half": torch.tensor([1.0], dtype=torch.float16),
        "nowhere": torch.empty(2, device="meta"),
    }
    assert loading.exceeding(weights, torch.float16) == []


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.float32])
def test_a_weight_of_any_width_is_refused_for_a_number_that_is_none_and_a_weight_without_numbers_is_not(
    dtype: torch.dtype,
) -> None:
    fine = {"whole": torch.ones(2, dtype=torch.int8), "none": torch.zeros(0, dtype=dtype)}
    fine |= {"nowhere": torch.empty(2, dtype=dtype, device="meta"), "sound": torch.ones(2).to(dtype)}
    loading.refuse_not_finite(fine, "file")
    with pytest.raises(ValueError, match=r"^file: NaN or infinity in 1 \(odd\)"):
        loading.refuse_not_finite(fine | {"odd": torch.tensor([1.0, float("nan")]).to(dtype)}, "file")


def test_a_weight_that_lacks_one_that_is_unknown_and_one_of_another_size_are_named_by_the_files_names() -> None:
    network = nn.Linear(2, 3)
    good = {"w": torch.ones(3, 2), "b": torch.ones(3)}
    places = {"w": "weight", "b": "bias"}
    loading.fill(network, good, "file", places)
    assert sum(float(tensor.sum()) for tensor in network.state_dict().values()) == 9
    with pytest.raises(ValueError, match=r"file: lacks 1 \(b\); holds, but is not known: 1 \(c\)"):
        loading.fill(network, {"w": good["w"], "c": good["b"]}, "file", places)
    with pytest.raises(ValueError, match=r"file: lacks 1 \(b\); holds, but is not known: nothing$"):
        loading.fill(network, {"w": good["w"]}, "file", places)
    with pytest.raises(ValueError, match=r"file: lacks nothing; holds, but is not known: 1 \(c\)$"):
        loading.fill(network, good | {"c": good["b"]}, "file", places)
    with pytest.raises(ValueError, match=r"file: wrong sizes: 1 \(w \(2, 3\) instead of \(3, 2\)\)"):
        loading.fill(network, {**good, "w": good["w"].T}, "file", places)
    with pytest.raises(ValueError, match=r"file: NaN or infinity in 1 \(b\)"):
        loading.fill(network, {**good, "b": torch.full((3,), float("inf"))}, "file", places)


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float16])
def test_a_network_without_memory_takes_the_files_own_tensors_in_the_precision_that_is_asked_for(
    dtype: torch.dtype | None,
) -> None:
    with torch.device("meta"):
        network = nn.BatchNorm1d(2)
    weights = {name: torch.ones(2) for name in ("weight", "bias", "running_mean", "running_var")}
    counted = weights | {"num_batches_tracked": torch.tensor(3)}
    loading.fill(network, counted, "file", dtype=dtype)
    own = network.state_dict()
    assert {own[name].dtype for name in weights} == {dtype or torch.float32}
    assert (own["weight"].data_ptr() == weights["weight"].data_ptr()) == (dtype != torch.float16)
    assert (own["num_batches_tracked"].dtype, int(own["num_batches_tracked"])) == (torch.int64, 3)
    loading.fill(nn.BatchNorm1d(2), weights, "file", dtype=dtype)  # older files count no batches
    large = counted | {"bias": torch.full((2,), 1e6)}
    if dtype == torch.float16:
        with pytest.raises(
            ValueError, match=r"file: too large for torch.float16: 1 \(bias\); take bfloat16 or float32"
        ):
            loading.fill(network, large, "file", dtype=dtype)
    else:
        loading.fill(network, large, "file", dtype=dtype)


def test_what_has_no_place_asked_for_stays_as_it_is() -> None:
    network = nn.Linear(2, 3)
    before = network.bias.detach().clone()
    loading.fill(network, {"w": torch.ones(3, 2)}, "file", {"w": "weight"})
    assert bool((network.weight == 1).all())
    assert torch.equal(network.bias, before)


def test_a_kernel_of_one_pixel_is_a_matrix_and_a_larger_one_is_not() -> None:
    network = nn.Linear(2, 3, bias=False)
    loading.fill(network, {"weight": torch.ones(3, 2, 1, 1)}, "file")
    assert float(network.weight.detach().sum()) == 6
    with pytest.raises(ValueError, match="wrong sizes"):
        loading.fill(network, {"weight": torch.ones(3, 2, 1, 2)}, "file")
