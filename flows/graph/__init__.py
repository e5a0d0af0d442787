"""The stage graph as DVC has it, its commands in forks, and one flow at a time in a working tree. Open dag.py first."""
