"""Work that is cut into parts, done by any executor, resumed after a kill, its failures listed. Open parts.py first."""
