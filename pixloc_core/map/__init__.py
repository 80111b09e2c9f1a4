"""Map data and the file formats it comes in; knows nothing of networks."""
