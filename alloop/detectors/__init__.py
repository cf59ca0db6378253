"""Detectors behind one protocol; `alloop.config.tables.DETECTORS` lists the built-in ones."""
