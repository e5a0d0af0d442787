"""The instance layers on a Stable Diffusion: conditions, UniFusion, gated attention, ScaleU. Open unet.py first."""
