"""Label volumes: BrainWeb files, the built-in head, and patches of them."""
