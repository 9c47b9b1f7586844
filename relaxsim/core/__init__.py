"""Errors, folders and progress bars that both packages use."""
