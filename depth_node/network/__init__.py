"""Networks: registry, weights and export to one graph."""
