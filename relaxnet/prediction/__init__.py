"""From a series to its maps: on arrays, and on files."""
