"""What went wrong in SAQ 0.26.4, as its users saw it: each once, and never again."""
