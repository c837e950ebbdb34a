"""What the operating system and the device are asked: precision, threads, progress."""
