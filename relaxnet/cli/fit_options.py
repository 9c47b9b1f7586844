"""Options of the noise and of the maximum-likelihood fit that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from relaxsim.core.files import read_json

if TYPE_CHECKING:
    from relaxnet.fitting.options import FitOptions
    from relaxsim.models.signal_model import SignalModel

Command = TypeVar("Command", bound=Callable[..., Any])
Bounds = dict[str, tuple[float, float]]

#: Upper bounds of a time below this share of the signal model's are in s: 5 s of 5000 ms.
_SMALLEST_SHARE = 1 / 500
#: Declarations of the options of a fit; `take_fit_options` makes `FitOptions` of their values.
_DECLARED = (
    click.option(
        "--bounds",
        type=click.Path(path_type=Path),
        help='JSON file of bounds for mle, such as {"A": [0, 5]}, by the parameters\' names; times '
        "in ms, A relative to the voxel's largest sample.",
    ),
    click.option(
        "--likelihood",
        type=click.Choice(["gaussian", "rician"]),
        help="Of mle.  [default: rician for magnitudes of SNR below 75, else gaussian]",
    ),
    click.option(
        "--lambda-b",
        metavar="X|auto",
        help="mle: Laplacian penalty on B in the mask (the paper's weight: 500).",
    ),
    click.option("--fix-b", type=float, help="mle: B is known (with --tr: the efficiency)."),
    click.option("--share-b", is_flag=True, help="mle: one B for the mask."),
    click.option(
        "--tr",
        metavar="MS|sidecar",
        help="mle: repetition time; B then depends on T1 and an inversion efficiency.",
    ),
)
_NAMES = ("bounds", "likelihood", "lambda_b", "fix_b", "share_b", "tr")


def fit_options(command: Command) -> Command:
    """Give a command the options of a fit, in the order of `_DECLARED`."""
    for declare in reversed(_DECLARED):
        command = declare(command)
    return command


def take_fit_options(
    options: dict[str, Any], models: Callable[[], Iterable[SignalModel]]
) -> FitOptions:
    """Take the options of a fit out of those of a command.

    Parameters
    ----------
    options : dict
        Values by the options' names; those of the fit are removed.
    models : callable
        Signal models that bounds may name parameters of; called only if there are bounds.

    Returns
    -------
    FitOptions

    Raises
    ------
    ValueError
        If a value is none of its option's, or options exclude each other.
    """
    from relaxnet.fitting.options import FitOptions

    given = {name: options.pop(name) for name in _NAMES}
    given["lambda_b"] = penalty_weight(given["lambda_b"])
    given["tr"] = repetition_time(given["tr"])
    if given["bounds"] is not None:
        given["bounds"] = read_bounds(given["bounds"], models(), given["tr"])
    return FitOptions(**given)


def penalty_weight(text: str | None) -> float | str | None:
    """Value of the option ``--lambda-b``: a number, ``auto``, or None where it is not given.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    from relaxnet.fitting.options import check_weight

    return text if text is None or text == "auto" else check_weight(text)


def repetition_time(text: str | None) -> float | Literal["sidecar"] | None:
    """Value of the option ``--tr``: None, ms, or ``sidecar``.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if text is None or text == "sidecar":
        return text  # type: ignore[return-value]
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--tr {text}: expected a number of ms, or sidecar.") from None


def read_sigma(text: str, pattern: bool = False) -> float | str | None:
    """Value of the option ``--sigma``: a number, a file or pattern of files, or None for auto.

    Raises
    ------
    ValueError
        If it is none of them, or there is no such file.
    """
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        if pattern or Path(text).is_file():
            return text
        raise ValueError(
            f"--sigma {text}: expected a number, a NIfTI file or auto; there is no such file."
        ) from None


def read_bounds(
    path: Path, models: Iterable[SignalModel], tr: float | Literal["sidecar"] | None = None
) -> Bounds:
    """Bounds that a JSON file names.

    Parameters
    ----------
    path : pathlib.Path
    models : iterable of SignalModel
        A name must be a parameter of one of them; with `tr` of their form with a finite one.
    tr : float, "sidecar" or None

    Returns
    -------
    bounds : dict
        Lower and upper bound by parameter.

    Raises
    ------
    ValueError
        If the file holds no bounds, names a parameter that no model has, or times are in s.
    """
    fitted = [_fitted(model, tr) for model in models]
    try:
        given = read_json(path)
        pairs = {name: (float(low), float(high)) for name, (low, high) in given.items()}
    except (ValueError, TypeError, AttributeError):
        low, high = fitted[0].bounds[-1]
        example = f'{{"{fitted[0].main}": [{low:g}, {high:g}]}}'
        raise ValueError(f"{path}: expected JSON such as {example}.") from None
    names = list(dict.fromkeys(name for model in fitted for name in model.parameters))
    for name, (low, high) in pairs.items():
        if name not in names or not low < high:
            raise ValueError(
                f"{path}: {name} from {low:g} to {high:g}; expected low < high for some of "
                f"{', '.join(names)}."
            )
        if any(name == model.main and _in_seconds(high, model) for model in fitted):
            raise ValueError(f"{path}: {name} from {low:g} to {high:g} looks like s; expected ms.")
    return pairs


def _fitted(model: SignalModel, tr: float | Literal["sidecar"] | None) -> SignalModel:
    """Model whose parameters a fit has: with a repetition time those that do not depend on it."""
    from relaxnet.fitting.options import FitOptions

    return model if model.finite_tr is None else FitOptions(tr=tr).fitted_model(model)


def _in_seconds(high: float, model: SignalModel) -> bool:
    """Whether an upper bound of the main parameter, a time in ms, must be one in s."""
    return model.units[-1] == "ms" and high < model.bounds[-1][1] * _SMALLEST_SHARE
