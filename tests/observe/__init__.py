"""What is seen from outside: metrics, traces, health, and the files of a deployment."""
