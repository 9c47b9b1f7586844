"""Evaluation series with their truth."""
