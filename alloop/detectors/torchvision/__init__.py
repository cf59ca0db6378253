"""Torchvision's detectors behind the detector protocol."""
