"""Signal models: what a voxel's weighted images are, given its tissue parameters.

A model is one frozen :class:`SignalModel` record, written on an explicit array namespace `xp`
(``numpy``, or ``tensorflow`` when the caller passes it), and it is all that the simulator, the
maximum-likelihood fit and the networks know of a sequence. A new model is a new record here.

Every model is *separable*: given the one non-linear parameter (the last one, a relaxation time),
the signed signal is a linear combination of `basis` columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

Array = Any


@dataclass(frozen=True)
class SignalModel:
    """One signal model.

    Attributes
    ----------
    name : str
        Identifier, as stored in shards and models.
    parameters : tuple of str
        Names of kappa's last axis; the last one is the relaxation time.
    units : tuple of str
        Unit of each parameter (``"a.u."`` is the image's own unit).
    times : str
        ``"tis"`` or ``"tes"``: the command-line option that carries the model's times.
    time_name : str
        The times in words, for messages.
    magnitude : bool
        Whether images hold the modulus of a signed signal that changes sign along tau.
    start : tuple of (float or None)
        Start values (paper, section 4.4.4); ``None`` stands for the voxel's maximum over images.
    bounds : tuple of (float, float)
        Physical bounds of each parameter. Those of ``A`` are relative to the voxel's maximum.
    signed : callable
        ``signed(kappa, tau, xp)``: signal before the modulus, (..., Q), (N,) -> (..., N).
    signed_jacobian : callable
        Derivative of `signed`, (..., Q), (N,) -> (..., N, Q).
    basis : callable
        ``basis(T, tau, xp)``: columns of the separable form, (...,), (N,) -> (..., N, L).
    from_linear : callable
        ``from_linear(c, T, xp)``: kappa from the coefficients of `basis`, (..., L), (...,)
        -> (..., Q).
    exponential : callable, optional
        Of a model ``a + b exp(-tau / T)``: ``exponential(kappa)`` gives a, b and the lists of their
        derivatives with respect to each parameter but T, all (...,) or numbers. Sums over images
        then need few passes over the data.
    """

    name: str
    parameters: tuple[str, ...]
    units: tuple[str, ...]
    times: str
    time_name: str
    magnitude: bool
    start: tuple[float | None, ...]
    bounds: tuple[tuple[float, float], ...]
    signed: Callable[..., Array]
    signed_jacobian: Callable[..., Array]
    basis: Callable[..., Array]
    from_linear: Callable[..., Array]
    exponential: Callable[[Array], tuple[Array, Array, list[Array], list[Array]]] | None = None

    @property
    def num_parameters(self) -> int:
        """Number of tissue parameters, Q."""
        return len(self.parameters)

    def forward(self, kappa: Array, tau: Array, xp: ModuleType = np) -> Array:
        """Noise-free signal.

        Parameters
        ----------
        kappa : array, shape (..., Q)
            Tissue parameters in `units`; the relaxation time positive.
        tau : array, shape (N,)
            Times in ms.
        xp : module
            Array namespace of `kappa`.

        Returns
        -------
        S : array, shape (..., N)
            Signal in the unit of ``A``; its modulus if `magnitude`.

        Raises
        ------
        ValueError
            If `kappa` does not end in Q or `tau` is not one-dimensional.

        Examples
        --------
        >>> float(INVERSION_RECOVERY.forward(np.array([1.0, 2.0, 1000.0]), np.array([0.0]))[0])
        1.0
        """
        self._check(kappa, tau)
        s = self.signed(kappa, tau, xp)
        return xp.abs(s) if self.magnitude else s

    def jacobian(self, kappa: Array, tau: Array, xp: ModuleType = np) -> Array:
        """Derivative of `forward`, shape (..., N, Q); arguments and errors as there."""
        self._check(kappa, tau)
        J = self.signed_jacobian(kappa, tau, xp)
        if not self.magnitude:
            return J
        return J * xp.sign(self.signed(kappa, tau, xp))[..., None]

    def start_from(self, mip: Array, xp: ModuleType = np) -> Array:
        """Start values kappa_0, shape (..., Q), from the maximum over images `mip`, shape (...)."""
        return xp.stack([mip if v is None else xp.ones_like(mip) * v for v in self.start], axis=-1)

    def _check(self, kappa: Array, tau: Array) -> None:
        if kappa.shape[-1] != self.num_parameters:
            raise ValueError(
                f"{self.name} has {self.num_parameters} parameters {self.parameters}, "
                f"received kappa of shape {tuple(kappa.shape)}"
            )
        if len(tau.shape) != 1:
            raise ValueError(f"tau must be one-dimensional, received shape {tuple(tau.shape)}")


def _ir_signed(kappa: Array, tau: Array, xp: ModuleType) -> Array:
    """``A (1 - B exp(-tau / T1))`` (paper, section 4.1)."""
    A, B, T1 = kappa[..., 0:1], kappa[..., 1:2], kappa[..., 2:3]
    return A * (1.0 - B * xp.exp(-tau / T1))


def _ir_signed_jacobian(kappa: Array, tau: Array, xp: ModuleType) -> Array:
    A, B, T1 = kappa[..., 0:1], kappa[..., 1:2], kappa[..., 2:3]
    E = xp.exp(-tau / T1)
    return xp.stack([1.0 - B * E, -A * E, -A * B * E * (tau / T1**2)], axis=-1)


def _ir_basis(T: Array, tau: Array, xp: ModuleType) -> Array:
    E = xp.exp(-tau / T[..., None])
    return xp.stack([xp.ones_like(E), -E], axis=-1)


def _ir_from_linear(c: Array, T: Array, xp: ModuleType) -> Array:
    """Coefficients are (A, A B)."""
    A = c[..., 0]
    return xp.stack([A, c[..., 1] / xp.where(A == 0, xp.ones_like(A), A), T], axis=-1)


def _ir_exponential(kappa: Array) -> tuple[Array, Array, list[Array], list[Array]]:
    A, B = kappa[..., 0], kappa[..., 1]
    return A, -A * B, [1.0, 0.0], [-B, -A]


def _t2_signed(kappa: Array, tau: Array, xp: ModuleType) -> Array:
    """``A exp(-tau / T2)`` (paper, section 4.1)."""
    return kappa[..., 0:1] * xp.exp(-tau / kappa[..., 1:2])


def _t2_signed_jacobian(kappa: Array, tau: Array, xp: ModuleType) -> Array:
    A, T2 = kappa[..., 0:1], kappa[..., 1:2]
    E = xp.exp(-tau / T2)
    return xp.stack([E, A * E * (tau / T2**2)], axis=-1)


def _t2_basis(T: Array, tau: Array, xp: ModuleType) -> Array:
    return xp.exp(-tau / T[..., None])[..., None]


def _t2_from_linear(c: Array, T: Array, xp: ModuleType) -> Array:
    return xp.stack([c[..., 0], T], axis=-1)


def _t2_exponential(kappa: Array) -> tuple[Array, Array, list[Array], list[Array]]:
    return 0.0, kappa[..., 0], [0.0], [1.0]


INVERSION_RECOVERY = SignalModel(
    name="inversion_recovery",
    parameters=("A", "B", "T1"),
    units=("a.u.", "1", "ms"),
    times="tis",
    time_name="inversion times",
    magnitude=True,
    start=(None, 2.0, 1000.0),
    bounds=((0.0, 10.0), (0.5, 2.5), (10.0, 6000.0)),
    signed=_ir_signed,
    signed_jacobian=_ir_signed_jacobian,
    basis=_ir_basis,
    from_linear=_ir_from_linear,
    exponential=_ir_exponential,
)

T2_DECAY = SignalModel(
    name="t2_decay",
    parameters=("A", "T2"),
    units=("a.u.", "ms"),
    times="tes",
    time_name="echo times",
    magnitude=False,
    start=(None, 100.0),
    bounds=((0.0, 100.0), (1.0, 5000.0)),
    signed=_t2_signed,
    signed_jacobian=_t2_signed_jacobian,
    basis=_t2_basis,
    from_linear=_t2_from_linear,
    exponential=_t2_exponential,
)

MODELS: dict[str, SignalModel] = {m.name: m for m in (INVERSION_RECOVERY, T2_DECAY)}


def signal_model(name: str) -> SignalModel:
    """Signal model by its name.

    Raises
    ------
    ValueError
        If there is no such model; the message lists the names.
    """
    if name not in MODELS:
        raise ValueError(f"no signal model is called {name!r}; there are: {', '.join(MODELS)}")
    return MODELS[name]


def model_for_times(times: str) -> SignalModel:
    """Signal model whose times come with the option `times`: ``"tis"`` or ``"tes"``."""
    return next(m for m in MODELS.values() if m.times == times)
