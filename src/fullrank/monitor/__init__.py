"""Check-ups: vital signs of a network while it trains (floor 2)."""
