"""Prefect's server behind a gate, and what a run may be asked for there. Open server.py first."""
