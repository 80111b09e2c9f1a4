"""Overlays, plots and the report page."""
