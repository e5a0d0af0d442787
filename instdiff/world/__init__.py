"""The miniature world: procedural scenes of shapes, their words and pictures. Open scenes.py first."""
