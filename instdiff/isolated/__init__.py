"""Models in a Python environment of their own, asked by one line of JSON each time. Open line_worker.py first."""
