"""The loop of fine-tuning, and the choice of its learning rate and length."""
