"""Bags played to a localizer, over DDS or in process, and what it was worth."""
