"""Text in: strings only."""
