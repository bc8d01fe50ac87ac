"""Turn one camera into a metric depth sensor on ROS 2."""

__version__ = "0.1.0"
