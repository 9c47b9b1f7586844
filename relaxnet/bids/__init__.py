"""Map a BIDS dataset into a derivative dataset."""
