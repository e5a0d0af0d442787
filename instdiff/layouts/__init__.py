"""Layouts: location formats, geometry, masks, strokes, their columns and the files of people. Open formats.py first."""
