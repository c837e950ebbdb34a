"""What was measured of files, for people: tables, drawings and the model card."""
