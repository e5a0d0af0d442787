"""The instance layers: conditions, UniFusion, gated attention, ScaleU, how they are best drawn. Open unet.py first."""
