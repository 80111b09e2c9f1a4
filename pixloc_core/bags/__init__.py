"""rosbag2 files without ROS."""
