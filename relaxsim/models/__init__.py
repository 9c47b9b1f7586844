"""Signal models, one file each, and protocols."""
