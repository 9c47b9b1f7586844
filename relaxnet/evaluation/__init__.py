"""Estimated maps against a truth."""
