"""Alignment of a query image to map points: the cost, its coarse-to-fine minimization, errors."""
