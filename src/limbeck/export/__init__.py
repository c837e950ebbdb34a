"""Models as plain transformers folders: written, loaded, described by a card."""
