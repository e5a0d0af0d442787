"""The stages that train, or import, what the instance layers stand on and what judges them. Open clip.py first."""
