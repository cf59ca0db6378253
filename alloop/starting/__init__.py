"""The first config of an experiment, made from its data, as `alloop init` writes it."""
