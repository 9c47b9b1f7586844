"""What the outside calls a signal model's quantities: options, files, fields, maps and pages.

A :class:`Border` holds all names, units and ranges by which commands, BIDS datasets, sidecars,
reports and pictures know a model. They read it and know no model by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relaxsim.models.references import Reference

Array = Any


@dataclass(frozen=True)
class ColumnBorder:
    """Names of a column of the protocol, in the order of `SignalModel.columns`.

    Attributes
    ----------
    option : str
        Command-line option that carries it, without dashes: ``tis``.
    words : str
        Plural, for messages: ``inversion times``.
    symbol : str
        For axes and equations: ``TI``.
    plausible : (float, float)
        Smallest and largest value, in the column's unit.
    plausible_largest : (float, float)
        The largest value of a list lies between these; a list outside was given in another unit.
    bids_field : str
        Field of raw sidecars: ``InversionTime``.
    bids_factor : float
        From the field's unit to the column's: 1000 from s to ms.
    sidecar_field : str
        Field of a list of them in the sidecars of maps: ``InversionTimesMs``.
    derivative_field : str
        Field of a list of them, in the unit of `bids_field`, in the sidecars of a BIDS derivative.
    random_largest : float, optional
        Largest value of random protocols.
    varies : bool
        Whether it differs from image to image; otherwise one number may stand for all images.
    default : float, optional
        Value where none is given; without it the column must be given.
    says_default : bool
        Whether a warning says that the default was taken.
    other_bids_field : str
        Field that is taken, and said, where the sidecars lack `bids_field`.
    names : tuple of str
        Names of its values, of a column whose number is the place of a name.
    of_file : callable, optional
        ``of_file(path)``: number of a value that a file holds, of a column with names.
    after_preparation : bool
        Whether it is the time since a pulse that may serve several slices, read one after the
        other.
    unit_hint : str
        Of a column that holds no times: what a list below `plausible_largest` looks like, and what
        to do: "which looks like radians: ...".
    """

    option: str
    words: str
    symbol: str
    plausible: tuple[float, float]
    plausible_largest: tuple[float, float]
    bids_field: str
    bids_factor: float
    sidecar_field: str
    derivative_field: str
    random_largest: float | None = None
    varies: bool = True
    default: float | None = None
    says_default: bool = False
    other_bids_field: str = ""
    names: tuple[str, ...] = ()
    of_file: Callable[[Path], float] | None = None
    after_preparation: bool = False
    unit_hint: str = ""

    def text(self, value: float) -> str:
        """A value as options take it: its name if it has one."""
        if not self.names:
            return f"{value:g}"
        return self.names[int(value)] if value < len(self.names) else f"file {value:.0f}"

    def interval(self, low: float, high: float, unit: str) -> str:
        """Values from `low` to `high` in words; of a column with names those between them."""
        if self.names:
            return ", ".join(self.text(value) for value in range(int(low), int(high) + 1))
        return f"{low:g} to {high:g} {unit}" if low < high else f"{low:g} {unit}"

    def stated(self, value: Any) -> Any:
        """Value or values of a sidecar as numbers: the place of a name."""
        return self.names.index(value) if value in self.names else value

    @property
    def is_time(self) -> bool:
        """Whether its values are times, which files hold in ms and BIDS in s."""
        return self.bids_factor == 1000.0


@dataclass(frozen=True)
class MapBorder:
    """Names of a parameter's map, in the order of `SignalModel.parameter_table`.

    Attributes
    ----------
    stem : str
        Of its files, ``<stem>map.nii.gz`` and ``<stem>std.nii.gz``: ``M0`` for A.
    meaning : str
        In words.
    range, std_range : (float, float), optional
        Of pictures, in the parameter's unit; by default those of the values.
    bids_suffix : str
        Suffix in a BIDS derivative if the specification has one for it, such as ``T1map``.
    bids_unit, bids_factor : str, float
        Unit there, and the factor to it.
    label : str
        What messages call the parameter, such as ``T2*``; its name unless given.
    trained : mapping of str to (float, float)
        Range of training data by the name of the tissue table, for networks whose cards lack it.
    """

    stem: str
    meaning: str
    range: tuple[float, float] | None = None
    std_range: tuple[float, float] | None = None
    bids_suffix: str = ""
    bids_unit: str = ""
    bids_factor: float = 1.0
    label: str = ""
    trained: Mapping[str, tuple[float, float]] | None = None

    @property
    def derivative_suffix(self) -> str:
        """Suffix of its files in a BIDS derivative: that of the specification, else the stem's."""
        return self.bids_suffix or f"{self.stem}map"


@dataclass(frozen=True)
class KnownBorder:
    """Names of a known map, in the order of `SignalModel.known_maps`.

    Attributes
    ----------
    option : str
        ``b1``.
    words : str
        ``relative transmit field``.
    bids_suffix : str
        Of the file beside a series: ``TB1map``.
    unit_hint : str
        What to try where values are implausible: "divide per cent by 100".
    """

    option: str
    words: str
    bids_suffix: str
    unit_hint: str


@dataclass(frozen=True)
class Caution:
    """Checks of a series that lead to a warning or a note; each gives a sentence or None.

    Attributes
    ----------
    of_series : callable, optional
        ``of_series(S, protocol, mask, sigma)``: a warning; (..., N), (N, D), (...,), number.
    remedy : str
        Sequence whose model describes what `of_series` warns of, with the same first column and
        defaults for the others.
    of_protocol : callable, optional
        ``of_protocol(protocol)``: a note about the list alone.
    of_estimate : callable, optional
        ``of_estimate(kappa, std, sound)``: a note about the estimates of a fit; (..., Q), (..., Q)
        or None, bool (...).
    of_sidecar : callable, optional
        ``of_sidecar(fields)``: a note about what a raw sidecar says.
    of_raw : callable, optional
        ``of_raw(fields, suffix)``: a warning about what the sidecar of a raw image and the suffix
        of its name say.
    of_readout : callable, optional
        ``of_readout(fields)``: a note where a fit with a repetition time assumes another readout
        than a raw sidecar names.
    of_misfit : str
        What may be missed where the residuals of all voxels exceed the noise in one way.
    of_floor : str
        What a floor under faint images does to the main parameter.
    """

    of_series: Callable[[np.ndarray, np.ndarray, np.ndarray, float], str | None] | None = None
    remedy: str = ""
    of_protocol: Callable[[np.ndarray], str | None] | None = None
    of_estimate: Callable[[np.ndarray, np.ndarray | None, np.ndarray], str | None] | None = None
    of_sidecar: Callable[[Mapping[str, Any]], str | None] | None = None
    of_raw: Callable[[Mapping[str, Any], str], str | None] | None = None
    of_readout: Callable[[Mapping[str, Any]], str | None] | None = None
    of_misfit: str = ""
    of_floor: str = ""


@dataclass(frozen=True)
class DerivedMap:
    """A map that follows from those of the parameters, such as R2* = 1 / T2*.

    Attributes
    ----------
    border : MapBorder
    unit : str
    value : callable
        ``value(kappa)``: (..., Q) -> (...); kappa is 0 where nothing was estimated.
    slope : callable, optional
        Of a value that depends on the main parameter alone: its derivative, (..., Q) -> (...), by
        which the standard deviation is propagated. Without it the map has none.
    """

    border: MapBorder
    unit: str
    value: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True)
class Border:
    """What the outside calls a model's quantities.

    Attributes
    ----------
    sequence : str
        Value of ``--sequence``: ``ir``.
    title : str
        Of the sequence in words: ``inversion recovery``.
    columns : tuple of ColumnBorder
    maps : tuple of MapBorder
    equation : str
        The signal as text.
    random_protocol : callable
        ``random_protocol(rng)``: a protocol (N, D) for networks that shall serve any.
    papers : tuple of Reference
        That the signal model is cited by.
    fit_papers : tuple of Reference
        That its maximum-likelihood fit is cited by.
    known : tuple of KnownBorder
    tissues : str
        Tissue table of simulations that name none.
    bids_suffix, bids_entity : str
        Of raw series, such as ``IRT1`` and ``inv``; empty where BIDS has no such suffix.
    other_suffixes : tuple of str
        Suffixes of other images whose series are this model's, where their sidecars hold its
        columns.
    echo_train : bool
        Whether the images of a series are echoes of one train of refocusing pulses, of which the
        first may be left out.
    default_network : str
        Shipped network; empty if there is none.
    only_by_name : bool
        Whether the model is taken only where its sequence is named or a sidecar tells of it, since
        another model takes the same options.
    claims : callable, optional
        Whether the sidecar of a raw image, a mapping, tells that a series is this model's though
        the times that vary fit another one.
    signal_only : str
        What the model leaves out, for ``--help`` and pages; empty for nothing worth saying.
    finite_tr_words : str
        What the equation's parameters are in a fit with a repetition time, to follow "with".
    takes : callable, optional
        ``takes(column)``: whether the first column of a protocol, (N,), is one of this model's.
        Of several models of one BIDS suffix it takes these series, the one without `takes` the
        others.
    with_known : str
        Sequence of the model in which the shared parameter of this one is a known map; it is taken
        where such a map is given.
    derived : tuple of DerivedMap
        Further maps that are written beside those of the parameters.
    flag : str
        Argument of `relaxnet.predict` and, with dashes, option that stands for the sequence:
        ``look_locker``; empty for none.
    caution : Caution
    """

    sequence: str
    title: str
    columns: tuple[ColumnBorder, ...]
    maps: tuple[MapBorder, ...]
    equation: str
    random_protocol: Callable[[np.random.Generator], np.ndarray]
    papers: tuple[Reference, ...]
    fit_papers: tuple[Reference, ...]
    known: tuple[KnownBorder, ...] = ()
    tissues: str = "paper"
    bids_suffix: str = ""
    bids_entity: str = ""
    other_suffixes: tuple[str, ...] = ()
    echo_train: bool = False
    default_network: str = ""
    only_by_name: bool = False
    claims: Callable[[Mapping[str, Any]], bool] | None = None
    signal_only: str = ""
    finite_tr_words: str = ""
    takes: Callable[[np.ndarray], bool] | None = None
    with_known: str = ""
    derived: tuple[DerivedMap, ...] = ()
    flag: str = ""
    caution: Caution = Caution()

    def assumed(self, given: Collection[str]) -> tuple[str, ...]:
        """Warning, if any, of the columns whose default is taken; `given` are their options."""
        taken = [
            f"`{column.option}` {column.text(column.default)}"
            for column in self.columns
            if column.says_default and column.default is not None and column.option not in given
        ]
        if not taken:
            return ()
        verb, them = ("are", "them") if len(taken) > 1 else ("is", "it")
        return (f"{' and '.join(taken)} {verb} assumed; give {them} if the scan differs",)

    @property
    def all_maps(self) -> tuple[MapBorder, ...]:
        """Names of all maps: of the parameters, then the derived ones."""
        return (*self.maps, *(entry.border for entry in self.derived))

    @property
    def options(self) -> tuple[str, ...]:
        """Options of the columns, in their order."""
        return tuple(column.option for column in self.columns)

    @property
    def references(self) -> tuple[str, ...]:
        """Papers of the signal model in a line each."""
        return tuple(paper.line for paper in self.papers)

    @property
    def fit_reference(self) -> str:
        """Papers of its maximum-likelihood fit in one line."""
        return "; ".join(paper.line for paper in self.fit_papers)

    @property
    def signed_equation(self) -> str:
        """The signal before the modulus as text."""
        return self.equation.replace("|", "")
