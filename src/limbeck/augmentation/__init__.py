"""More rows without labels, made of the training rows of a task: for a teacher to label."""
