"""What a signal model is: its parameters, its protocol, and the signal that follows from them.

A model is one :class:`SignalModel` record in a file of its own in this folder. It is written on an
explicit array namespace `xp` (``numpy``, or ``tensorflow`` when the caller passes it). The
simulator, the fits and the networks know nothing else of a sequence; what files, options and pages
call its quantities stands in its `border` (`relaxsim.models.border`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from relaxsim.models.border import Border

Array = Any


@dataclass(frozen=True)
class Parameter:
    """A tissue parameter, one entry of kappa's last axis.

    Attributes
    ----------
    name : str
        Such as ``T1``.
    unit : str
        ``"a.u."`` is the unit of the images: such a parameter scales the signal.
    start : float or None
        Start value of estimations (paper, section 4.4.4); ``None`` is the voxel's maximum over
        the images.
    bounds : (float, float)
        Physical bounds; of an amplitude relative to the voxel's maximum.
    drawn : (float, float), optional
        Range of the log-uniform draw of simulated tissues, where the tissue table has no column of
        this name.
    """

    name: str
    unit: str
    start: float | None
    bounds: tuple[float, float]
    drawn: tuple[float, float] | None = None


@dataclass(frozen=True)
class Column:
    """A column of the protocol: what varies from image to image.

    Attributes
    ----------
    name : str
        Such as ``inversion_time``.
    unit : str
        ``ms`` or ``degrees``.
    """

    name: str
    unit: str = "ms"


@dataclass(frozen=True)
class KnownMap:
    """A map that is measured beside the series and enters the signal.

    Attributes
    ----------
    name : str
        Such as ``B1``.
    unit : str
    default : float
        Value where no map is given.
    plausible : (float, float)
        Range of its values inside an object.
    of_field : callable
        ``of_field(p)``: simulated map of a random polynomial field p, (n, P, P) -> (n, P, P)
        (`relaxsim.simulation.fields.polynomial_field`).
    """

    name: str
    unit: str
    default: float
    plausible: tuple[float, float]
    of_field: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class SharedParameter:
    """The parameter that varies slowly in space, which neighbours share, and how it is simulated.

    Attributes
    ----------
    name : str
        Of the parameter.
    one_value : callable
        ``one_value(rng, n)``: n draws of a value for a whole patch, shape (n,).
    wide : (float, float)
        Range of a uniform draw of such a value.
    of_field : callable
        ``of_field(p)``: map of a random polynomial field p, (n, P, P) -> (n, P, P)
        (`relaxsim.simulation.fields.polynomial_field`).
    label : str
        What messages call it; its name unless given.
    mirror : callable, optional
        ``mirror(protocol)``: value about which the signal but for its amplitude is symmetric, of a
        protocol (N, D); None if there is none. Fits search on its lower side.
    points : int
        Of the grid along it from which a fit without a closed form starts.
    """

    name: str
    one_value: Callable[[np.random.Generator, int], np.ndarray]
    wide: tuple[float, float]
    of_field: Callable[[np.ndarray], np.ndarray]
    label: str = ""
    points: int = 13
    mirror: Callable[[np.ndarray], float | None] | None = None


@dataclass(frozen=True)
class Separable:
    """The form of a model that is linear in all parameters but the last one, T.

    Given T, the signed signal is a linear combination of `basis` columns.

    Attributes
    ----------
    basis : callable
        ``basis(T, protocol, known, xp)``: (...,), (N, D), (..., K) -> (..., N, L).
    from_linear : callable
        ``from_linear(c, T, xp)``: kappa of the coefficients, (..., L), (...,) -> (..., Q).
    exponential : callable, optional
        Of a signal ``a + b exp(-t / T)``, t being the protocol's only column:
        ``exponential(kappa)`` gives a, b and the lists of their derivatives with respect to each
        parameter but T, all (...,) or numbers. Sums over images then need few passes over the data.
    """

    basis: Callable[..., Array]
    from_linear: Callable[..., Array]
    exponential: Callable[[Array], tuple[Array, Array, list[Array], list[Array]]] | None = None


@dataclass(frozen=True)
class FiniteTR:
    """How a model with a repetition time long enough for full recovery changes with a short one.

    Attributes
    ----------
    model : callable
        ``model(tr)``: signal model of a repetition time in ms, in parameters that do not depend on
        it; the same number of them.
    apparent : callable
        ``apparent(kappa, tr)``: parameters of the model at infinite TR that give the signal of
        those, (..., Q) -> (..., Q).
    apparent_jacobian : callable
        Derivative of `apparent`, (..., Q) -> (..., Q, Q).
    from_infinite : callable
        ``from_infinite(kappa)``: parameters of ``model(tr)`` for the same tissue and inversion, of
        those that hold at infinite TR, (..., Q) -> (..., Q).
    from_apparent : callable
        ``from_apparent(kappa, tr)``: inverse of `apparent`, (..., Q) -> (..., Q).
    check : callable
        ``check(tr, protocol)`` raises ValueError if the protocol (N, D) has no room in the TR.
    """

    model: Callable[[float], SignalModel]
    apparent: Callable[..., Array]
    apparent_jacobian: Callable[..., Array]
    from_infinite: Callable[[Array], Array]
    from_apparent: Callable[..., Array]
    check: Callable[[float, np.ndarray], None]


@dataclass(frozen=True)
class Axis:
    """Evenly spaced nodes of a table.

    Attributes
    ----------
    origin, step : float
        First node, and distance of two.
    num : int
    """

    origin: float
    step: float
    num: int

    @property
    def nodes(self) -> np.ndarray:
        """All of them, (num,)."""
        return self.origin + self.step * np.arange(self.num)


@dataclass(frozen=True)
class ProtocolTable:
    """The signal of A = 1 on a grid of parameters, of a model that is costly to compute.

    The model has three parameters: A, the shared one and the main one, T. Networks take the table
    in the place of the protocol, and `SignalModel.physics` on tensors interpolates in it. Fits
    search it, and refine what they find by the physics itself.

    Attributes
    ----------
    log_T, shared : Axis
        Nodes of the logarithm of T and of the shared parameter.
    of_protocol : callable
        ``of_protocol(protocol)``: coefficients of cubic splines, (N, D) -> (N, size), float32; T
        varies slowest.
    """

    log_T: Axis
    shared: Axis
    of_protocol: Callable[[np.ndarray], np.ndarray]

    @property
    def size(self) -> int:
        """Number of nodes."""
        return self.log_T.num * self.shared.num


@dataclass(frozen=True)
class FitForm:
    """Other parameters of the same signal, in which its fit has a closed form.

    Attributes
    ----------
    model : SignalModel
        Of the same protocol and known maps, with a separable form; its bounds are those of fits.
    to_kappa : callable
        Parameters of the model itself from those of `model`, (..., Q) -> (..., Q).
    from_kappa : callable
        Its inverse.
    """

    model: SignalModel
    to_kappa: Callable[[np.ndarray], np.ndarray]
    from_kappa: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class SignalModel:
    """One signal model.

    Attributes
    ----------
    name : str
        Identifier, as stored in shards, networks and sidecars.
    parameter_table : tuple of Parameter
        Kappa's last axis. The first is the amplitude A; the last is the one that the sequence
        measures, usually a relaxation time.
    columns : tuple of Column
        Columns of the protocol, D.
    magnitude : bool
        Whether images hold the modulus of a signed signal that changes sign along the protocol.
    physics : callable
        ``physics(kappa, protocol, known, xp)``: signal before the modulus,
        (..., Q), (..., N, D), (..., K) -> (..., N). Leading axes broadcast. `known` is None if the
        model has no known map.
    physics_jacobian : callable
        Derivative of `physics` with respect to kappa, -> (..., N, Q).
    border : Border
        What files, options and pages call the model's quantities.
    known_maps : tuple of KnownMap
        K maps that enter the signal.
    shared : SharedParameter, optional
    separable : Separable, optional
        Without it fits search a grid.
    finite_tr : FiniteTR, optional
    fit_form : FitForm, optional
        Of a model that is separable in other parameters.
    tabulated : ProtocolTable, optional
        What networks take for the protocol.
    weak : bool
        Whether the signal is a small part of A that depends on the protocol. A then starts at the
        voxel's maximum divided by `largest_signal`, and the A of simulated tissues is divided by
        it, so that images are of order one.
    """

    name: str
    parameter_table: tuple[Parameter, ...]
    columns: tuple[Column, ...]
    magnitude: bool
    physics: Callable[..., Array]
    physics_jacobian: Callable[..., Array]
    border: Border = field(repr=False)
    known_maps: tuple[KnownMap, ...] = ()
    shared: SharedParameter | None = None
    separable: Separable | None = None
    finite_tr: FiniteTR | None = None
    fit_form: FitForm | None = None
    tabulated: ProtocolTable | None = None
    weak: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of kappa's last axis."""
        return tuple(p.name for p in self.parameter_table)

    @property
    def units(self) -> tuple[str, ...]:
        """Unit of each parameter."""
        return tuple(p.unit for p in self.parameter_table)

    @property
    def start(self) -> tuple[float | None, ...]:
        """Start value of each parameter."""
        return tuple(p.start for p in self.parameter_table)

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Bounds of each parameter."""
        return tuple(p.bounds for p in self.parameter_table)

    @property
    def num_parameters(self) -> int:
        """Number of tissue parameters, Q."""
        return len(self.parameter_table)

    @property
    def main(self) -> str:
        """Name of the parameter that the sequence measures: the last one."""
        return self.parameter_table[-1].name

    @property
    def main_label(self) -> str:
        """What messages call the parameter that the sequence measures."""
        return self.border.maps[-1].label or self.main

    @property
    def shared_index(self) -> int | None:
        """Index of the shared parameter in kappa, or None."""
        return None if self.shared is None else self.parameters.index(self.shared.name)

    def signed(
        self, kappa: Array, protocol: Array, xp: ModuleType = np, known: Array | None = None
    ) -> Array:
        """Noise-free signal before the modulus; arguments and errors as `forward`."""
        protocol, known = self._checked(kappa, protocol, known, xp)
        return self.physics(kappa, protocol, known, xp)

    def signed_jacobian(
        self, kappa: Array, protocol: Array, xp: ModuleType = np, known: Array | None = None
    ) -> Array:
        """Derivative of `signed`, shape (..., N, Q); arguments and errors as `forward`."""
        protocol, known = self._checked(kappa, protocol, known, xp)
        return self.physics_jacobian(kappa, protocol, known, xp)

    def forward(
        self, kappa: Array, protocol: Array, xp: ModuleType = np, known: Array | None = None
    ) -> Array:
        """Noise-free signal.

        Parameters
        ----------
        kappa : array, shape (..., Q)
            Tissue parameters in `units`; relaxation times positive.
        protocol : array, shape (N, D), (N,) if D = 1, or (..., N, D)
            A row an image, in the units of `columns`; leading axes broadcast with those of kappa.
        xp : module
            Array namespace of `kappa`.
        known : array, shape (..., K), optional
            Known maps; by default their default values.

        Returns
        -------
        S : array, shape (..., N)
            Signal in the unit of ``A``; its modulus if `magnitude`.

        Raises
        ------
        ValueError
            If `kappa` does not end in Q, `protocol` not in D or `known` not in K.

        Examples
        --------
        >>> from relaxsim.models.registry import signal_model
        >>> model = signal_model("inversion_recovery")
        >>> float(model.forward(np.array([1.0, 2.0, 1000.0]), np.array([0.0]))[0])
        1.0
        """
        s = self.signed(kappa, protocol, xp, known)
        return xp.abs(s) if self.magnitude else s

    def jacobian(
        self, kappa: Array, protocol: Array, xp: ModuleType = np, known: Array | None = None
    ) -> Array:
        """Derivative of `forward`, shape (..., N, Q); arguments and errors as there."""
        J = self.signed_jacobian(kappa, protocol, xp, known)
        if not self.magnitude:
            return J
        return J * xp.sign(self.signed(kappa, protocol, xp, known))[..., None]

    @property
    def fitted(self) -> SignalModel:
        """The model in whose parameters fits search: that of `fit_form`, or itself."""
        return self if self.fit_form is None else self.fit_form.model

    def start_from(self, mip: Array, xp: ModuleType = np, protocol: Array | None = None) -> Array:
        """Start values kappa_0, (..., Q), from the maximum over images `mip`, (...).

        `protocol` is needed if the model is `weak`.
        """
        if self.weak:
            mip = mip / self.largest_signal(protocol, xp)
        return xp.stack([mip if v is None else xp.ones_like(mip) * v for v in self.start], axis=-1)

    def largest_signal(self, protocol: Array, xp: ModuleType = np) -> Array:
        """Largest signal over images of A = 1 and the other start values; 1 unless `weak`.

        Parameters
        ----------
        protocol : array, shape (..., N, D)
        xp : module

        Returns
        -------
        largest : array, shape (...)
        """
        one = xp.ones_like(protocol[..., 0, 0])
        if not self.weak:
            return one
        kappa = xp.stack([one if v is None else one * v for v in self.start], axis=-1)
        signal = self.forward(kappa, protocol, xp)
        return signal.max(axis=-1) if xp is np else xp.reduce_max(signal, axis=-1)

    def table(self, protocol: Array) -> Array:
        """A protocol with its column axis, (..., N, D); times (N,) of a model with one column too.

        What `network_protocol` gives is taken as it is.

        Raises
        ------
        ValueError
            If there is another number of columns.
        """
        D = len(self.columns)
        if self.tabulated is not None and protocol.shape[-1] == self.tabulated.size:
            return protocol
        if D == 1 and len(protocol.shape) == 1:
            return protocol[:, None]
        if len(protocol.shape) < 2 or protocol.shape[-1] != D:
            names = ", ".join(column.name for column in self.columns)
            raise ValueError(
                f"{self.name} takes a protocol of {D} columns ({names}), "
                f"received shape {tuple(protocol.shape)}"
            )
        return protocol

    @property
    def network_columns(self) -> int:
        """Columns of `network_protocol`."""
        return len(self.columns) if self.tabulated is None else self.tabulated.size

    def network_protocol(self, protocol: np.ndarray) -> np.ndarray:
        """What a network takes for a protocol (..., N, D), float32.

        That is the protocol itself, or its `tabulated` signal, (..., N, size).

        Raises
        ------
        ValueError
            As `table`, and of a protocol that the model cannot tabulate.
        """
        table = np.asarray(self.table(np.asarray(protocol)))
        if self.tabulated is None or table.shape[-1] == self.tabulated.size:
            return table.astype(np.float32)
        if table.ndim == 2:
            return self.tabulated.of_protocol(table)
        return np.stack([self.network_protocol(row) for row in table])

    def _checked(
        self, kappa: Array, protocol: Array, known: Array | None, xp: ModuleType
    ) -> tuple[Array, Array | None]:
        """Protocol with its column axis and known maps; refuses wrong last axes."""
        if kappa.shape[-1] != self.num_parameters:
            raise ValueError(
                f"{self.name} has {self.num_parameters} parameters {self.parameters}, "
                f"received kappa of shape {tuple(kappa.shape)}"
            )
        protocol = self.table(protocol)
        if not self.known_maps:
            return protocol, None
        if known is None:
            one = xp.ones_like(kappa[..., 0])
            known = xp.stack([one * m.default for m in self.known_maps], axis=-1)
        if known.shape[-1] != len(self.known_maps):
            raise ValueError(
                f"{self.name} takes {len(self.known_maps)} known maps "
                f"({', '.join(m.name for m in self.known_maps)}), "
                f"received shape {tuple(known.shape)}"
            )
        return protocol, known
