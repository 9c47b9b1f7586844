"""The methods that the experiments compare: networks and maximum-likelihood fits.

Every method estimates from the same things, a series with its times, noise and mask, along the
path of ``relaxnet predict``. Each has one colour in all figures (after Okabe and Ito 2008), which
can be distinguished with any colour vision.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from relaxnet.cli.tensorflow_import import import_tensorflow
from relaxnet.fitting.options import VOXELWISE, FitOptions
from relaxnet.fitting.regularised import LAMBDA_B
from relaxnet.maps.maps import Maps
from relaxnet.networks.registry import (
    ModelError,
    architecture_of,
    checksum,
    find_model,
    load_network,
)
from relaxnet.prediction.arrays import predict
from relaxsim.models.signal_model import SignalModel

#: Title and colour of each kind of method.
RIM = "RIM", "#D55E00"
RIM_PAPER = "RIM, paper's recipe", "#E69F00"
RIM_ANY = "RIM for any times", "#CC79A7"
RESNET = "ResNet", "#009E73"
MLE = "MLE", "#56B4E9"
MLE_LAMBDA = "MLE, B regularised (500)", "#0072B2"
MLE_AUTO = "MLE, B regularised (auto)", "#1B2A5E"
MLE_SHARED = "MLE, B shared", "#5F5F5F"
MLE_PHYSICAL = "MLE, B at most 2", "#56B4E9"
MLE_RICIAN = "MLE, Rician", "#000000"
MLE_RICIAN_LAMBDA = "MLE, Rician, B regularised (500)", "#0072B2"
MLE_RICIAN_AUTO = "MLE, Rician, B regularised (auto)", "#1B2A5E"
OTHER = "#F0E442"

#: Networks for each bundled protocol, in the order of the figures.
NETWORKS = {
    "cine23": ("rim-cine23-paper", "rim-cine23", "rim-t1", "resnet-cine23"),
    "cine25": ("rim-cine25-paper", "rim-cine25", "rim-t1", "resnet-cine25"),
    "cine31": ("rim-cine31-paper", "rim-cine31", "rim-t1", "resnet-cine31"),
    "fse6": ("rim-fse6-paper", "rim-fse6", "rim-t2", "resnet-fse6"),
}
#: Networks for lists of times that no network was trained on alone.
NETWORKS_ANY = {"inversion_recovery": ("rim-t1",), "t2_decay": ("rim-t2",)}
#: Maximum-likelihood fits: name, title and colour, options. Those after the first concern B.
FITS = {
    "mle": (MLE, FitOptions(likelihood="gaussian")),
    "mle-500": (MLE_LAMBDA, FitOptions(likelihood="gaussian", lambda_b=LAMBDA_B)),
    "mle-auto": (MLE_AUTO, FitOptions(likelihood="gaussian", lambda_b="auto")),
    "mle-shared": (MLE_SHARED, FitOptions(likelihood="gaussian", share_b=True)),
}

#: Fits that are made where they are asked for.
OTHER_FITS = {
    "mle-b2": (MLE_PHYSICAL, FitOptions(likelihood="gaussian", bounds={"B": [1.0, 2.0]})),
    "mle-rician": (MLE_RICIAN, FitOptions(likelihood="rician")),
    "mle-rician-500": (MLE_RICIAN_LAMBDA, FitOptions(likelihood="rician", lambda_b=LAMBDA_B)),
    "mle-rician-auto": (MLE_RICIAN_AUTO, FitOptions(likelihood="rician", lambda_b="auto")),
}


@dataclass(frozen=True)
class Method:
    """One way to estimate maps.

    Attributes
    ----------
    name : str
        In tables and on command lines.
    title : str
        In figures.
    colour : str
    kind : str
        ``rim``, ``resnet`` or ``mle``.
    network : Path or None
        File of the network.
    fit : FitOptions
        Of ``mle``.
    """

    name: str
    title: str
    colour: str
    kind: str
    network: Path | None = None
    fit: FitOptions = VOXELWISE

    @property
    def identity(self) -> str:
        """Digest of all that its estimates depend on: network's checksum, or options of the fit."""
        return checksum(self.network) if self.network else repr(self.fit)

    @property
    def interval_factor(self) -> float:
        """Half width of the main parameter's 95 % interval in standard deviations."""
        if self.network is None:
            return 1.96
        network = _loaded(self.network)
        return float(network.error_head.factors[-1]) if network.has_std else float("nan")

    def maps(
        self,
        S: np.ndarray,
        tau: np.ndarray,
        model: SignalModel,
        sigma: float | np.ndarray | None = None,
        mask: np.ndarray | None = None,
        signed: bool | None = None,
        spacing: tuple[float, ...] | None = None,
        force: bool = False,
    ) -> Maps:
        """Maps of a series (X, Y, Z, N), as `relaxnet.prediction.arrays.predict`."""
        network = _loaded(self.network) if self.network else None
        series = S, tau, model, self.kind, network, sigma, mask, signed
        return predict(*series, self.fit, spacing=spacing, force=force)

    def estimate(
        self,
        S: np.ndarray,
        tau: np.ndarray,
        model: SignalModel,
        sigma: float | None = None,
        mask: np.ndarray | None = None,
        force: bool = False,
    ) -> np.ndarray:
        """Kappa of one slice: S (X, Y, N), mask (X, Y) -> (X, Y, Q); 0 outside the mask.

        With `force` a sigma that contradicts the data is used all the same.
        """
        slab = None if mask is None else mask[:, :, None]
        series = S[:, :, None], tau, model, sigma, slab
        return self.maps(*series, signed=False, force=force).kappa[:, :, 0]


@functools.lru_cache(maxsize=4)
def _loaded(path: Path) -> Any:
    import_tensorflow()
    return load_network(path)


def fits_for(model: SignalModel) -> list[Method]:
    """Maximum-likelihood fits for a signal model; only the voxel-wise one if it has no B."""
    names = list(FITS) if model.shared else ["mle"]
    return [fit_method(name) for name in names]


def fit_method(name: str) -> Method:
    """One of `FITS` or `OTHER_FITS`, or ``mle-X``: B regularised with the weight X."""
    known = FITS | OTHER_FITS
    if name in known:
        (title, colour), options = known[name]
    else:
        weight = float(name.removeprefix("mle-"))
        title, colour = f"MLE, B regularised ({weight:g})", OTHER
        options = FitOptions(likelihood="gaussian", lambda_b=weight)
    return Method(name, title, colour, "mle", fit=options)


def network_method(name: str, path: str | Path | None = None) -> Method:
    """A network by its name, from the package or from a file.

    Raises
    ------
    relaxnet.networks.registry.ModelError
        If there is none.
    """
    file = find_model(path or name)
    kind = architecture_of(file)
    if kind == "resnet":
        title, colour = RESNET
    elif name.endswith("-paper"):
        title, colour = RIM_PAPER
    elif name in ("rim-t1", "rim-t2"):
        title, colour = RIM_ANY
    elif name.startswith("rim-"):
        title, colour = RIM
    else:
        title, colour = name, OTHER
    return Method(name, title, colour, kind, file)


def networks_for(
    names: Sequence[str],
    files: dict[str, Path] | None = None,
    say: Callable[[str], object] = click.echo,
) -> list[Method]:
    """Networks by name, then those that only `files` names; missing ones are reported and skipped.

    Parameters
    ----------
    names : sequence of str
    files : dict of str to Path, optional
        Files that take the place of names; see `parse_files`.
    say : callable
        Takes a line for each network that is missing.
    """
    files, found = files or {}, []
    for name in [*names, *(n for n in files if n not in names)]:
        try:
            found.append(network_method(name, files.get(name)))
        except ModelError:
            where = files.get(name, "not in this version")
            say(f"{name} is skipped: there is no such network ({where}).")
    return found


def shown(methods: Sequence[Method], rows: Sequence[dict[str, Any]]) -> list[Method]:
    """Those of the methods of which a table has rows."""
    names = {row["method"] for row in rows}
    return [method for method in methods if method.name in names]


def methods_for(
    protocol: str,
    model: SignalModel,
    files: dict[str, Path] | None = None,
    only: Sequence[str] = (),
    say: Callable[[str], object] = click.echo,
) -> list[Method]:
    """All methods for a protocol: its networks, those that `files` adds, and the fits.

    Parameters
    ----------
    protocol : str
        Name of the times, such as ``cine31``.
    model : SignalModel
    files : dict of str to Path, optional
    only : sequence of str
        Names to keep; default all.
    say : callable

    Raises
    ------
    ValueError
        If `only` names something that is not a method.
    """
    files = files or {}
    names = NETWORKS.get(protocol, NETWORKS_ANY[model.name])
    fits = [method.name for method in fits_for(model)]
    for name in only:
        if name not in (*names, *files, *fits, *OTHER_FITS):
            known = ", ".join([*names, *files, *fits, *OTHER_FITS])
            raise ValueError(f"{name} is no method for {protocol}; there are: {known}.")
    wanted = [n for n in names if not only or n in only]
    kept = {n: path for n, path in files.items() if not only or n in only}
    fitted = [fit_method(n) for n in (*fits, *OTHER_FITS) if n in (only or fits)]
    return networks_for(wanted, kept, say) + fitted


def parse_files(pairs: Sequence[str]) -> dict[str, Path]:
    """Networks of ``NAME=PATH`` options.

    Raises
    ------
    ValueError
        If a pair has no name or no path.
    """
    files = {}
    for pair in pairs:
        name, _, path = pair.partition("=")
        if not name or not path:
            raise ValueError(f"--models {pair}: expected NAME=PATH.")
        files[name] = Path(path)
    return files


#: Options that all experiments have.
models_option = click.option(
    "--models",
    multiple=True,
    metavar="NAME=PATH",
    help="Network file that takes the place of a name, or is added; repeatable.",
)
methods_option = click.option(
    "--methods", "only", multiple=True, metavar="NAME", help="Only these methods; repeatable."
)
