"""One image and a prior against a map: pose, evidence, or the reason why there is none."""
