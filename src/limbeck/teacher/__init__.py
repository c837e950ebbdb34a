"""Where the teacher's signals come from: a live model, or a cache of signals on disk."""
