"""Echoes of a train on a grid of log T2 and B1, and cubic splines between its nodes.

Fits and networks need the echoes of many voxels, and their derivatives. The extended phase graph
(`relaxsim.models.phase_graph`) gives them on a grid, once for a train.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from relaxsim.models.phase_graph import Train, echo_amplitudes
from relaxsim.models.signal_model import Axis
from relaxsim.models.slice_profiles import angles_across

#: Ends of the table in T2 (ms) and B1; estimates lie within.
T2_ENDS, B1_ENDS = (1.0, 5000.0), (0.2, 1.6)
#: Step in log T2, and in B1 for one echo; the more echoes, the faster a signal changes with B1.
_LOG_STEP, _B1_STEP, _B1_STEPS = 0.2, 0.25, (1 / 120, 1 / 60)
#: Step in B1 of the tables of networks.
_NETWORK_STEP = 1 / 60
#: Parts in which tensors are interpolated: smaller ones stay in memory that is at hand.
_PARTS = 8
#: Nodes beyond the ends, where the spline's own ends show.
_MARGIN = 4


def _ends() -> tuple[tuple[float, float], tuple[float, float]]:
    """Ends of log T2 and of B1."""
    return (float(np.log(T2_ENDS[0])), float(np.log(T2_ENDS[1]))), B1_ENDS


def _axes(b1_step: float) -> tuple[Axis, Axis]:
    """Nodes of log T2 and B1 that reach `_MARGIN` beyond the ends."""
    ends = _ends()
    parts = []
    for (low, high), step in zip(ends, (_LOG_STEP, b1_step), strict=True):
        num = int(np.ceil((high - low) / step)) + 2 * _MARGIN + 1
        parts.append(Axis(float(low - _MARGIN * step), step, num))
    return parts[0], parts[1]


#: Nodes of `network_table`, and their number.
NETWORK_GRID = _axes(_NETWORK_STEP)
NETWORK_SIZE = NETWORK_GRID[0].num * NETWORK_GRID[1].num


@dataclass(frozen=True)
class EchoTable:
    """Spline coefficients of the echoes over log T2 and B1.

    Attributes
    ----------
    coefficients : array, shape (U, V, N)
    axes : (Axis, Axis)
        Nodes of log T2 and B1.
    """

    coefficients: np.ndarray
    axes: tuple[Axis, Axis]

    def at(self, T2: np.ndarray, B1: np.ndarray, slopes: bool = False) -> np.ndarray:
        """Echoes of A = 1; beyond the table's ends those of the ends.

        Parameters
        ----------
        T2, B1 : arrays, shape (n,)
        slopes : bool
            Also the derivatives with respect to T2 and B1.

        Returns
        -------
        echoes : array, shape (1, n, N); (3, n, N) with the slopes
        """
        x = [np.clip(v, *ends) for v, ends in zip((np.log(T2), B1), _ends(), strict=True)]
        place = [(v - axis.origin) / axis.step for v, axis in zip(x, self.axes, strict=True)]
        cell = [np.floor(p).astype(np.intp) for p in place]
        u, v = _cubic(place[0] - cell[0], np), _cubic(place[1] - cell[1], np)
        V, N = self.coefficients.shape[1:]
        around = np.arange(-1, 3)
        index = (cell[0] * V + cell[1])[:, None] + (around[:, None] * V + around).ravel()
        nodes = self.coefficients.reshape(-1, N)[index]
        weights = _weights(u, v, self.axes, T2, slopes, np)
        return np.moveaxis(np.stack(weights, axis=1) @ nodes, 1, 0)


def on_tensors(T2: Any, B1: Any, table: Any, slopes: bool, xp: ModuleType) -> list[Any]:
    """Echoes of A = 1 from `network_table`, and their slopes along T2 and B1 if asked for.

    Parameters
    ----------
    T2, B1 : tensors, shape (b, h, w)
    table : tensor, shape (N, `NETWORK_SIZE`), or (b, 1, 1, N, `NETWORK_SIZE`)
    slopes : bool
    xp : module
        Array namespace: ``tensorflow``.

    Returns
    -------
    echoes : list of one or three tensors, shape (b, h, w, N)
    """
    shape = xp.shape(T2)
    T2, B1 = xp.reshape(T2, [-1]), xp.reshape(B1, [-1])
    first, u, v = _cells(T2, B1, xp)
    if len(table.shape) == 5:  # one after the other
        table = table[:, 0, 0]
        of_table = NETWORK_SIZE * xp.range(xp.shape(table)[0])
        first += xp.repeat(of_table, shape[1] * shape[2])
    N = xp.shape(table)[-2]
    columns = xp.reshape(xp.linalg.matrix_transpose(table), [-1, N])
    fours = xp.concat([xp.roll(columns, 1 - k, axis=0) for k in range(4)], axis=1)
    rows = xp.stack(_weights(u, v, NETWORK_GRID, T2, slopes, xp), axis=1)
    index = first[:, None] + NETWORK_GRID[1].num * np.arange(-1, 3, dtype=np.int32)
    part = xp.shape(T2)[0] // _PARTS + 1
    found = []
    for k in range(_PARTS):
        here = slice(k * part, (k + 1) * part)
        nodes = xp.reshape(xp.gather(fours, index[here]), [-1, 16, N])
        found.append(xp.matmul(rows[here], nodes))
    echoes = xp.unstack(xp.concat(found, axis=0), axis=1)
    return [xp.reshape(e, xp.concat([shape, [N]], axis=0)) for e in echoes]


def _cells(T2: Any, B1: Any, xp: ModuleType) -> tuple[Any, tuple[Any, Any], tuple[Any, Any]]:
    """First node of each cell of `NETWORK_GRID` (n,), and weights (n, 4) along log T2 and B1."""
    cells, weights = [], []
    ends = _ends()
    for x, (low, high), axis in zip((xp.math.log(T2), B1), ends, NETWORK_GRID, strict=True):
        place = (xp.clip_by_value(x, low, high) - axis.origin) / axis.step
        cell = xp.floor(place)
        weights.append(_cubic(place - cell, xp))
        # A value that is no number would lie at no node at all.
        cells.append(xp.clip_by_value(xp.cast(cell, xp.int32), 1, axis.num - 3))
    return cells[0] * NETWORK_GRID[1].num + cells[1], weights[0], weights[1]


def _cubic(x: Any, xp: ModuleType) -> tuple[Any, Any]:
    """Weights (..., 4) of a cubic spline's coefficients, and their derivatives, at x in 0 to 1."""
    y = 1.0 - x
    w = [y**3, 4 - 3 * x**2 * (2 - x), 4 - 3 * y**2 * (2 - y), x**3]
    d = [-3 * y**2, 9 * x**2 - 12 * x, 12 * y - 9 * y**2, 3 * x**2]
    return xp.stack(w, axis=-1) / 6, xp.stack(d, axis=-1) / 6


def _weights(
    u: tuple[Any, Any], v: tuple[Any, Any], axes: tuple[Axis, Axis], T2: Any, slopes: bool, xp: Any
) -> list[Any]:
    """Weights (n, 16) of the nodes, for the echoes and, if asked for, their slopes."""
    pairs = [(u[0], v[0])]
    if slopes:
        pairs += [(u[1] / (axes[0].step * T2[:, None]), v[0]), (u[0], v[1] / axes[1].step)]
    return [xp.reshape(a[:, :, None] * b[:, None, :], (-1, 16)) for a, b in pairs]


@lru_cache(maxsize=64)
def echo_table(train: Train) -> EchoTable:
    """Table of a train, made once."""
    return _table(train, float(np.clip(_B1_STEP / max(train.echoes), *_B1_STEPS)))


@lru_cache(maxsize=512)
def network_table(train: Train) -> np.ndarray:
    """Coefficients of a table whose grid is the same for all trains, (N, `NETWORK_SIZE`), float32.

    Its nodes are those of `NETWORK_GRID`, with B1 as the last axis.
    """
    table = _table(train, NETWORK_GRID[1].step).coefficients
    return np.ascontiguousarray(table.reshape(-1, table.shape[-1]).T, dtype=np.float32)


def _table(train: Train, b1_step: float) -> EchoTable:
    from scipy.ndimage import spline_filter1d  # commands that only list the models do without

    axes = _axes(b1_step)
    T2, B1 = np.exp(axes[0].nodes), axes[1].nodes
    excited, angle, weight = angles_across(train.profile, train.excitation, train.refocusing, B1)
    values = _by_angle(T2, train)  # (N, U, J)
    share = _interpolation(angle, values.shape[-1])  # (V, P, J)
    across = np.einsum("p,vp,vpj->jv", weight, excited, share)
    table = np.moveaxis(values @ across, 0, -1)
    for axis in (0, 1):
        table = spline_filter1d(table, 3, axis, mode="mirror")
    return EchoTable(np.ascontiguousarray(table), axes)


def _by_angle(T2: np.ndarray, train: Train) -> np.ndarray:
    """Echoes that were taken at the nodes of `_interpolation`, (N, U, J), of a full excitation."""
    J = max(train.echoes) + 1
    angle = np.pi * (np.arange(J) + 0.5) / J
    echoes = echo_amplitudes(T2[:, None], np.ones(J), angle, train)
    return echoes[[n - 1 for n in train.echoes]]


def _interpolation(angle: np.ndarray, J: int) -> np.ndarray:
    """Weights (..., J) of the values at J angles, the roots of a Chebyshev polynomial.

    Echo n is a polynomial of degree n in the cosine of the refocusing angle: each pulse multiplies
    by at most one cosine, and sines come in pairs. J > n values therefore give it exactly.
    """
    order = np.arange(J)
    at_nodes = np.cos(np.pi * order[:, None] * (np.arange(J) + 0.5) / J)
    return np.cos(order * angle[..., None]) @ (at_nodes * np.where(order, 2.0, 1.0)[:, None] / J)
