"""What a representation is: pure tensor mathematics, no training (floor 0)."""
