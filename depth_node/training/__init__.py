"""Training of the shipped student."""
