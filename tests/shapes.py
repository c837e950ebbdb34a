"""The sizes of toy models: a student, and teachers that are wider and deeper."""

from dataclasses import replace

from limbeck.models.shapes import Shape

SMALL = Shape(
    num_hidden_layers=2,
    hidden_size=16,
    num_attention_heads=2,
    intermediate_size=32,
    vocab_size=200,
    max_position_embeddings=80,
)
LARGE = replace(
    SMALL, num_hidden_layers=3, hidden_size=24, num_attention_heads=4, intermediate_size=48
)
DEEP = replace(LARGE, num_hidden_layers=4)
