"""What the benchmarks share: networks to train and ways to measure."""
