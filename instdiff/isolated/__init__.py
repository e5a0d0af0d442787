"""Models in a Python environment of their own: asked by one line of JSON, answering by one. Open line_worker.py first."""
