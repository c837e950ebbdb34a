"""Models on OpenAI-compatible servers: log-probabilities as signals, texts as answers."""
