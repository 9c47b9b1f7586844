"""From labels and tissue tables to tissue parameters and noisy images."""
