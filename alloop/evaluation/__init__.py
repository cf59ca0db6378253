"""COCO AP."""
