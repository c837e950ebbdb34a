"""Prompts and conversations as tokens: where answers are, what is learned, and packing."""
