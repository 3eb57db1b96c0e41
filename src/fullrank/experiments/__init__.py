"""Many runs at once: factorials, and the store their runs are found in."""
