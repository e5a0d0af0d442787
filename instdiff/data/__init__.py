"""Training samples, from shards, embeddings or pictures to batches. Open batches.py first."""
