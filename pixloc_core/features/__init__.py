"""Image features: extractors, pyramids, and the descriptors of map points."""
