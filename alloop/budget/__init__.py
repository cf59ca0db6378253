"""Amounts of annotation and their prices."""
