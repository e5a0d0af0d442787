"""The DVC graph under Prefect: the same stages and arrows, watched, retried, side by side. Open pipeline.py first."""
