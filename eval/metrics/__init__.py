"""Metrics: each file is one number, a function of what was measured; none of them reads a file."""
