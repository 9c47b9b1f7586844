"""Real brains with their noise, and the maps of methods, which are kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kept import kept_array
from methods import Method, fit_method
from real_data import Brain

from relaxnet.evaluation.metrics import coefficient_of_variation
from relaxnet.maps.maps import Maps


@dataclass(frozen=True)
class Scan:
    """A brain with its noise; maps of methods are kept.

    Attributes
    ----------
    brain : Brain
    sigma : float
        Noise standard deviation, from the residuals of the voxel-wise fit.
    cache : Path
    """

    brain: Brain
    sigma: float
    cache: Path

    @property
    def regions(self) -> dict[str, np.ndarray]:
        """White and grey matter, and the brain."""
        return {**self.brain.regions, "brain": self.brain.mask}

    def T(self, method: Method, added: float = 0.0, repeat: int = 0, seed: int = 0) -> np.ndarray:
        """Map (X, Y, 1) in ms, of the series with noise added: `added` times its sigma."""
        settings = {
            "series": _digest(self.brain),
            "sigma": self.sigma,
            "method": method.identity,
            "added": added,
            "draw": [seed, repeat] if added else [],
        }

        def make() -> np.ndarray:
            rng = np.random.default_rng([seed, round(10 * added), repeat])
            noise = added * self.sigma * rng.standard_normal(self.brain.S.shape, np.float32)
            sigma = self.sigma * float(np.sqrt(1 + added**2))
            return _maps(self.brain, method, self.brain.S + noise, sigma).kappa[..., -1]

        name = f"{self.brain.name} {method.name} added {added:g} {repeat}"
        return kept_array(self.cache / "in_vivo", name, settings, make)

    def cv(self, method: Method, added: float, repeats: int, seed: int) -> np.ndarray:
        """CV (X, Y, 1) in per cent over scans with noise added; 0 outside the mask."""
        estimates = np.stack([self.T(method, added, repeat, seed) for repeat in range(repeats)])
        out = np.zeros(estimates.shape[1:])
        known = self.brain.mask & (estimates > 0).all(axis=0)
        out[known] = coefficient_of_variation(estimates[:, known].astype(float))
        return out


def make_scan(brain: Brain, cache: Path) -> Scan:
    """A brain with its noise, found in the residuals of the voxel-wise fit."""
    sigma = kept_array(
        cache / "in_vivo",
        f"{brain.name} sigma",
        {"series": _digest(brain)},
        lambda: np.array(_maps(brain, fit_method("mle"), brain.S, None).sigma),
    )
    return Scan(brain, float(sigma), cache)


def _maps(brain: Brain, method: Method, S: np.ndarray, sigma: float | None) -> Maps:
    return method.maps(S, brain.tau, brain.model, sigma, brain.mask, signed=brain.signed)


def _digest(brain: Brain) -> str:
    arrays = (brain.S, brain.tau, brain.mask)
    data = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)
    return hashlib.sha256(data).hexdigest()
