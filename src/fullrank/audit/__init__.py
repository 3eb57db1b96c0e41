"""What exists already, measured: embeddings in files, frozen models, checkpoints (floor 3)."""
