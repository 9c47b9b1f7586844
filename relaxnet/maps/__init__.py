"""Maps with their status, warnings and sidecars; a folder of them, written and read back."""
