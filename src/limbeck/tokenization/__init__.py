"""From here on there are pieces: masking, packing, batches."""
