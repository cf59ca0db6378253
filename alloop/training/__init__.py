"""One round's training."""
