"""Which way a headline metric is better: higher, but for these."""

LOWER_IS_BETTER = frozenset({"colour_leak", "fid"})
