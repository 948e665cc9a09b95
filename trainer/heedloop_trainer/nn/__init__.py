"""Models, token sequences, the optimiser, distribution over processes."""
