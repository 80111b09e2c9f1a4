"""Training pairs from real images with known poses."""
