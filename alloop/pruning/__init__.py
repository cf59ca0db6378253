"""Choosing the part of an annotated data set worth training on."""
