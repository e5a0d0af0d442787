"""Training of the instance layers, from one process to a cluster. Open train.py first."""
