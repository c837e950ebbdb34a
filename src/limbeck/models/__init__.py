"""Any transformers model: where its parts are, how it loads, what it computes on the way."""
