import subprocess
import sys

import torch

from instdiff.randomness import derive, generator, torch_generator


def test_the_same_names_give_the_same_draws() -> None:
    assert generator(1, "noise", "k", 3).integers(1 << 60) == generator(1, "noise", "k", 3).integers(1 << 60)
    draw, other = (torch.randn(4, generator=torch_generator(1, "noise", "k")) for _ in range(2))
    assert torch.equal(draw, other)


def test_every_name_and_its_place_matter() -> None:
    streams = [(0,), (1,), (0, "a"), (0, "b"), (0, "ab", "c"), (0, "a", "bc"), (0, "a", 1), (0, "a", "1"), (0, 1, "a")]
    assert len({generator(*names).integers(1 << 60) for names in streams}) == len(streams)
    assert len({torch_generator(*names).initial_seed() for names in streams}) == len(streams)
    assert len({derive(*names) for names in streams}) == len(streams)


def test_draws_are_the_same_in_another_process_and_forever() -> None:
    """Python's own hash of a string is another one in every process; these numbers are in stored data."""
    code = "from instdiff.randomness import derive; print(derive(7, 'train'))"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(there) == derive(7, "train") == DERIVED


DERIVED = 134973798180444
