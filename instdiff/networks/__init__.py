"""What each network is and how it is asked; nothing here trains one. Open clip.py first."""
