"""The smaller model: its shape, its first weights, its projections."""
