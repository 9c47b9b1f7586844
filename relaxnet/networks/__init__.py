"""Keras networks, the likelihood they follow, their registry and their export."""
