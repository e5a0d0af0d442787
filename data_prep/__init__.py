"""Stages that turn pictures into shards of annotated instances. Open annotate.py first."""
