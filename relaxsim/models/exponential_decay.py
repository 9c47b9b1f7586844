"""A decay ``A exp(-t / T)`` after one excitation: the physics of several signal models."""

from __future__ import annotations

from types import ModuleType

from relaxsim.models.signal_model import Array, Separable


def signal(kappa: Array, protocol: Array, known: None, xp: ModuleType) -> Array:
    """``A exp(-t / T)``; kappa is (A, T), the protocol's first column is t."""
    return kappa[..., 0:1] * xp.exp(-protocol[..., 0] / kappa[..., 1:2])


def jacobian(kappa: Array, protocol: Array, known: None, xp: ModuleType) -> Array:
    """Derivative of `signal` with respect to A and T, (..., N, 2)."""
    A, T = kappa[..., 0:1], kappa[..., 1:2]
    t = protocol[..., 0]
    E = xp.exp(-t / T)
    return xp.stack([E, A * E * (t / T**2)], axis=-1)


def _basis(T: Array, protocol: Array, known: None, xp: ModuleType) -> Array:
    return xp.exp(-protocol[..., 0] / T[..., None])[..., None]


def _from_linear(c: Array, T: Array, xp: ModuleType) -> Array:
    return xp.stack([c[..., 0], T], axis=-1)


def _exponential(kappa: Array) -> tuple[Array, Array, list[Array], list[Array]]:
    return 0.0, kappa[..., 0], [0.0], [1.0]


#: Linear in A, for given T.
SEPARABLE = Separable(_basis, _from_linear, _exponential)
