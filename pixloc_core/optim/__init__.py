"""Robust nonlinear least squares over poses."""
