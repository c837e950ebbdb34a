"""Many recipes, trained and measured alike, and compared."""
