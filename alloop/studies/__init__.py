"""Studies: grids of experiments."""
