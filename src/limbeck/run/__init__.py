"""A checked recipe becomes a run folder."""
