"""One frozen protocol for depth and scale."""
