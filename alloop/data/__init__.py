"""Annotation formats, image decoding, splits, and the embedded set."""
