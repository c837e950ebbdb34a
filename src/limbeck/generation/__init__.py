"""Who writes the text that a student learns on."""
