"""What is found in a series before the estimation: scale, foreground, noise, phase."""
