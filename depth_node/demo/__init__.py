"""The demo: the world's camera and the node as separate processes, watched and reported."""
