"""Signal-to-noise ratio, as all of both packages state it: ``SNR = 0.75 / sigma``."""

from __future__ import annotations

from typing import Any

#: Mean A of grey and white matter, in units of CSF's A: the signal of the ratio (paper, section
#: 4.2).
SIGNAL = 0.75
#: Noise standard deviations that are simulated at all, in units of CSF's A.
SIGMAS = (1e-6, 1e3)


def snr_of(sigma: Any) -> Any:
    """SNR of a noise standard deviation, a number or array, in units of CSF's A.

    Examples
    --------
    >>> snr_of(0.03)
    25.0
    """
    return SIGNAL / sigma


def sigma_of(snr: Any) -> Any:
    """Noise standard deviation of an SNR, in units of CSF's A."""
    return SIGNAL / snr
