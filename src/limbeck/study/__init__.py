"""Many recipes, trained and measured in the same way, and compared."""
