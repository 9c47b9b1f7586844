"""A repetition time that nobody states is said where the data show it."""

import numpy as np
import pytest

from relaxnet.fitting.options import FitOptions
from relaxnet.prediction.arrays import predict
from relaxsim.models.inversion_recovery import MODEL

TIS = np.array([30.0, 200, 400, 600, 800, 1000, 1300, 1700, 2500])


def tissues(tr, snr=60.0, seed=0):
    """Magnitudes of tissues of T1 650 to 3500 ms whose inversion varies a little in space."""
    rng = np.random.default_rng(seed)
    T1 = rng.choice([650.0, 850.0, 1300.0, 3500.0], (32, 32, 1))
    x = np.linspace(-1, 1, 32)
    e = (0.97 - 0.05 * x[:, None] ** 2 - 0.05 * x**2)[..., None]
    kappa = np.stack([np.ones_like(T1), e, T1], axis=-1)
    if tr is None:
        kappa[..., 1] += 1.0
    else:
        kappa = MODEL.finite_tr.apparent(kappa, tr)
    S = MODEL.forward(kappa, TIS)
    noise = rng.standard_normal((2, *S.shape)) / snr
    return np.hypot(S + noise[0], noise[1])


def warnings(S, method, fit=None):
    options = {} if fit is None else {"fit": fit}
    maps = predict(S, TIS, MODEL, method, sigma=1 / 60, **options)
    return [w for w in maps.warnings if "repetition time" in w]


@pytest.mark.parametrize("tr", [1000.0, 2600.0])
def test_networks_and_shared_fits_warn_of_a_short_one(tr):
    S = tissues(tr)
    for method, fit in (("rim", None), ("mle", FitOptions(share_b=True))):
        (warning,) = warnings(S, method, fit)
        found = float(warning.split("about ")[1].split(" ms")[0])
        assert 0.6 * tr < found < 1.5 * tr
    assert not warnings(S, "mle")  # each voxel has its own
    assert not warnings(S, "mle", FitOptions(share_b=True, tr=max(tr, 2600.0)))


def test_a_long_one_is_no_fault():
    for seed in range(3):
        assert not warnings(tissues(None, seed=seed), "rim")
        assert not warnings(tissues(15_000.0, seed=seed), "rim")
