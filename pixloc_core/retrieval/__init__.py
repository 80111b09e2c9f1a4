"""Which map images show the same place as an image: global descriptors and their search."""
