"""Data sets in the formats of other tools, in and out: one file a format. Open registry.py first."""
