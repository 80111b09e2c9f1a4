"""`pixloc doctor`: what is wrong with a running system, in plain words."""
