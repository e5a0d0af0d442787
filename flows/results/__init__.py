"""What a run shows and leaves: progress, metrics, artifacts, experiments. Open artifacts.py first."""
