"""Maximum-likelihood fits on arrays, with numpy and scipy alone."""
