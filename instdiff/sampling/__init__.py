"""From layouts and weights to pictures: solvers, guidance, the multi-instance sampler. Open pipeline.py first."""
