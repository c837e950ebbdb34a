"""From here on there are tokens: masking, packing, batches."""
