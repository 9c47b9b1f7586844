"""NIfTI files and their sidecars, in and out."""
