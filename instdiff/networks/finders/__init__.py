"""Finders: pictures and phrases -> boxes with labels and scores. Open finder.py first."""
