"""Metric scale: from affine-invariant disparity to metres."""
