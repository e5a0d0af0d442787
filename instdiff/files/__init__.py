"""Files as all stages read and write them: complete or absent, a fault in one sentence. Open atomic.py first."""
