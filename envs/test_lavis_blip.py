"""LAVIS' own BLIP, small and random, through our worker, in the environment that `make lavis` makes."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from data_prep.annotators import lavis_client
from data_prep.annotators.crops import ModelParams
from instdiff.isolated import line_worker
from instdiff.work.outcomes import Failure, outcomes

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".lavis" / "bin" / "python"


def test_lavis_own_class_describes_a_batch_as_it_does_one_crop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run by hand, after `make lavis`."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    offline = {name: value for name, value in os.environ.items() if name not in line_worker.OTHERS}
    made = [str(PYTHON), "-W", "ignore", str(ROOT / "envs" / "small_blip.py"), str(tmp_path)]
    subprocess.run(made, check=True, env=offline | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"})
    worker = lavis_client.Lavis(
        ModelParams(
            weights=tmp_path / "blip.yaml",
            python=PYTHON,
            prompt="a photo of ",
            num_beams=2,
            max_tokens=12,
            precision="float32",
            device="cpu",
            min_area=0,
            name_category=False,
        )
    )
    crops = [np.random.default_rng(n).integers(0, 255, (20 + n, 30, 3), np.uint8) for n in range(4)]
    together = [outcome for _, outcome in outcomes(crops, worker.describe, 4)]
    print(f"\n{worker.name}: {together}")
    assert not any(isinstance(one, Failure) for one in together)
    assert len(set(map(str, together))) > 1
    assert together == [worker.describe([crop])[0] for crop in crops]
    assert worker.name.startswith("lavis-1.0.2:blip_caption@")
