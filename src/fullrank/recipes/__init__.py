"""One published method a file, and the registry (floor 2)."""
