"""The training loop, checkpoints and the run record (floor 3)."""
