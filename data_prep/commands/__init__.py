"""What people do by hand with shards: export, validate, push. Open validate_shards.py first."""
