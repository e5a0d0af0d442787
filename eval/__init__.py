"""Stages that turn pictures into detections, scores and a report."""
