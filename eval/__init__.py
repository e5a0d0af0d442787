"""Stages and commands that turn pictures into detections, scores and a report. Open score.py first."""
