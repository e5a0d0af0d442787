"""The pictures that people bring, and which of them are taken. Open lists.py first."""
