"""Signal-to-noise ratio, as all of both packages state it."""

from __future__ import annotations

#: Mean A of grey and white matter, in units of CSF's A: the signal of the ratio (paper, section
#: 4.2), so that SNR = 0.75 / sigma.
SIGNAL = 0.75
#: Noise standard deviations that are simulated at all, in units of CSF's A.
SIGMAS = (1e-6, 1e3)


def snr_of(sigma: float) -> float:
    """SNR of a noise standard deviation in units of CSF's A, and the other way round.

    Examples
    --------
    >>> snr_of(0.03)
    25.0
    """
    return SIGNAL / sigma
