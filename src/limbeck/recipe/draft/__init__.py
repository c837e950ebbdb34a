"""A recipe that is written for what a user has and wants (`limbeck init`)."""
