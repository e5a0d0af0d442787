"""The page that shows prepared data before anything is trained on it. Open look_page.py first."""
