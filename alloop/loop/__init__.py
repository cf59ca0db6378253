"""The active-learning loop: train, evaluate, query, ask, book."""
