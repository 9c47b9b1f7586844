"""HDF5 shards: their layout, their generation, and a look at them."""
