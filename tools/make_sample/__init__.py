"""Makes the sample world: map images, SfM model and two recorded streams."""
