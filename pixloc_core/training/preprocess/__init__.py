"""From the layouts in which data sets are published to files of image collections."""
