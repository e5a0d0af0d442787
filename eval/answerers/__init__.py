"""Answerers: a picture or a part of it, and a question -> a vision-language model's answer. Open answerer.py first."""
