"""Weights of other forms in and out, every key accounted for. Open assemble.py first."""
