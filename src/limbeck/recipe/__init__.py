"""What a user writes becomes a checked, plain description, or every problem at once."""
