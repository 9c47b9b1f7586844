"""Pages and pictures of a folder of maps."""
