"""Any transformers model: where its parts are, how it loads, and its activations."""
