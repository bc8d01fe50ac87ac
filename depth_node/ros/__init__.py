"""The ROS 2 side: one lifecycle node, one module a concern."""
