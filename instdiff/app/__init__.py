"""The commands that people start by hand. Open generate.py first."""
