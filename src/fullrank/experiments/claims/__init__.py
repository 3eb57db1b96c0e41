"""The papers' claims as programs: one paper a file."""
