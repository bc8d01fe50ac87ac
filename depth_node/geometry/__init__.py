"""Camera geometry: rectification, depth, edges and point clouds."""
