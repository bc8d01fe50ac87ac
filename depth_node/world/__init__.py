"""A small synthetic world with a robot, rendered by ray casting."""
