"""What goes wrong on the way to Redis, made to happen."""
