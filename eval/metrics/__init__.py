"""Each file is one metric, a function of what was measured that reads no file. Open points_in_mask.py first."""
