"""Networks that give an image one class."""
