"""Stages that turn pictures into shards of annotated instances."""
