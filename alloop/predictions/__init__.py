"""Predictions of somebody else's detector: read from files, shown to strategies, and the images they choose."""
