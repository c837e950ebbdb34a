"""What `limbeck doctor` finds out of the machine and what is installed on it."""
