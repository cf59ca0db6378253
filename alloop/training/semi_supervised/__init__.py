"""Training with pseudo-labels on unlabeled images."""
