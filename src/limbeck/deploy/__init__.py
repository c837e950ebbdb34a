"""Files of models for other runtimes, the proof of what each of them keeps, and running them."""
