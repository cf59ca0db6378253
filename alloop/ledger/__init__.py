"""Everything that is stored in `run.db`."""
