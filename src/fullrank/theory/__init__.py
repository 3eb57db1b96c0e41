"""What the dynamics predict: differential equations and closed forms in float64, no networks."""
