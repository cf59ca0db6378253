"""Images with one class each, from files that need no code to be read."""
