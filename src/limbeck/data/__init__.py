"""Text and prompts are read from files, as strings."""
