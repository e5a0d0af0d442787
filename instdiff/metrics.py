"""Which way a headline metric is better: higher, but for these."""
