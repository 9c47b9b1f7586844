"""relaxsim: simulated training and evaluation data for MR relaxometry."""

__version__ = "0.1.0"
