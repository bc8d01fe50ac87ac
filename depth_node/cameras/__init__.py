"""Cameras that the node opens itself."""
