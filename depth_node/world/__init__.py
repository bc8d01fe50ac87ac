"""A small synthetic world with a robot, rendered by ray casting."""

from depth_node.world.sampling import make_place, sample, samples

__all__ = ["make_place", "sample", "samples"]
