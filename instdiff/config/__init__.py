"""Values: composed from configs/ into params.yaml, and checked before any stage runs. Open compose.py first."""
