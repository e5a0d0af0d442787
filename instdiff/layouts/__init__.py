"""Layouts: geometry, masks and strokes of instances, and the files in which people write them. Open files.py first."""
