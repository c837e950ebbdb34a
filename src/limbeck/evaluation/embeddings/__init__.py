"""Vectors of texts, and how good they are as they are: without any fine-tuning."""
