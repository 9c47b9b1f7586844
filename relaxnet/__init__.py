"""relaxnet: T1 and T2 maps from weighted MR series, by network or by maximum likelihood."""

from relaxsim import __version__

__all__ = ["__version__"]
