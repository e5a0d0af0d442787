"""The paper's columns: shares stand there in per cent, distances and scores as they are."""

from eval.benchmarks import published


def test_shares_are_held_against_the_paper_in_per_cent_and_nothing_else() -> None:
    scales = {column: scale for column, (_, scale) in published.COLUMNS.items()}
    assert {column for column, scale in scales.items() if scale == 1} == {"FID", "CLIP"}
    assert all(scale in (1, 100) for scale in scales.values())
