"""Pose errors, lists of queries, tables."""
