"""What each network is, where it runs and how it is asked; nothing here trains one. Open clip.py first."""
