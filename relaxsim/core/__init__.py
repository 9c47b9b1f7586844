"""Errors, folders, options and locks that both packages use."""
