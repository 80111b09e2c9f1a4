"""Training of features through the optimizer that uses them."""
