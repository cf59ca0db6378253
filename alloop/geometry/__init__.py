"""Boxes and masks: arithmetic on numpy arrays."""
