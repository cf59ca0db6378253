"""What an experiment is about: the parts of a round that depend on the kind of label."""
