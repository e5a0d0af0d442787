"""Public benchmarks, one file each: what they ask for, who judges it, and their table. Open benchmark.py first."""
