"""Shards to batches, the training loop, the folder of a run, calibration."""
