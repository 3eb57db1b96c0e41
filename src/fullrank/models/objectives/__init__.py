"""How predictions and targets are compared, and what spreads them; one objective a file."""
