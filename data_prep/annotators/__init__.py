"""Who says what is in a picture: grounders, segmenters, captioners, as the data stages ask them. Open tags.py first."""
