"""Answerers: a picture or a part of it, and a question -> the answer of a vision-language model. Open answerer.py first."""
