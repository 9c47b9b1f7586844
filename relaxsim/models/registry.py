"""The signal models there are: every file of this folder that defines ``MODEL``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

import relaxsim.models
from relaxsim.models.signal_model import FiniteTR, SignalModel

#: Files of this folder that use the registry, so that it cannot import them.
_USERS = ("registry", "protocols")


#: Every signal model by its name.
MODELS: dict[str, SignalModel] = {}


def find_models(folders: Iterable[str] = ()) -> None:
    """Put the models of the package's folders into `MODELS`, in the order of the files' names.

    Parameters
    ----------
    folders : iterable of str
        Further folders of files that define a model each, such as those that another process
        knows (`model_folders`).
    """
    known = relaxsim.models.__path__
    known.extend(folder for folder in folders if folder not in known)
    for module in pkgutil.iter_modules(relaxsim.models.__path__):
        if module.name not in _USERS:
            content = importlib.import_module(f"relaxsim.models.{module.name}")
            model = getattr(content, "MODEL", None)
            if isinstance(model, SignalModel):
                MODELS.setdefault(model.name, model)


find_models()


def model_folders() -> list[str]:
    """Folders in which signal models are looked for."""
    return list(relaxsim.models.__path__)


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


def model_of(name: SignalModel | str) -> SignalModel:
    """A signal model: itself, or by its name, its sequence or the option of its times.

    Raises
    ------
    ValueError
        If there is none of that name.

    Examples
    --------
    >>> model_of("ir").name == model_of("tis").name == "inversion_recovery"
    True
    """
    if isinstance(name, SignalModel):
        return name
    for model in MODELS.values():
        if name in (model.name, model.border.sequence):
            return model
    for model in MODELS.values():
        if name == model.border.columns[0].option and not model.border.only_by_name:
            return model
    return signal_model(name)


def finite_tr_of(model: SignalModel) -> FiniteTR:
    """How a model changes with a short repetition time.

    Raises
    ------
    ValueError
        If it does not depend on the repetition time.
    """
    if model.finite_tr is None:
        titles = " and ".join(m.border.title for m in MODELS.values() if m.finite_tr is not None)
        raise ValueError(f"`tr` belongs to {titles}; {model.border.title} does not use it.")
    return model.finite_tr


def with_known_maps(model: SignalModel, options: Iterable[str]) -> SignalModel:
    """The model that takes known maps of such options: the model itself, or its other form.

    Parameters
    ----------
    model : SignalModel
    options : iterable of str
        Such as ``b1``.
    """
    wanted, border = set(options), model.border
    if wanted <= {known.option for known in border.known} or not border.with_known:
        return model
    other = model_of(border.with_known)
    return other if wanted <= {known.option for known in other.border.known} else model


def model_of_suffix(suffix: str, column: np.ndarray | None = None) -> SignalModel | None:
    """Signal model of a BIDS suffix, or None.

    Parameters
    ----------
    suffix : str
    column : array, shape (N,), optional
        First column of the protocol, by which one of several models is chosen.
    """
    found = [m for m in MODELS.values() if suffix and m.border.bids_suffix == suffix]
    for model in found:
        if column is not None and model.border.takes is not None and model.border.takes(column):
            return model
    return next((m for m in found if m.border.takes is None), found[0] if found else None)


def column_options(models: Iterable[SignalModel] | None = None) -> dict[str, list[SignalModel]]:
    """Options of protocols' columns, and the models that take each."""
    options: dict[str, list[SignalModel]] = {}
    for model in MODELS.values() if models is None else models:
        for column in model.border.columns:
            options.setdefault(column.option, []).append(model)
    return options


def sequence_flags() -> dict[str, SignalModel]:
    """Arguments that stand for a sequence, such as ``look_locker``, and its model."""
    return {model.border.flag: model for model in MODELS.values() if model.border.flag}


def flagged_sequence(flags: Mapping[str, bool], sequence: str = "") -> str:
    """Sequence that is asked for by name or by its flag; empty if it is not.

    Parameters
    ----------
    flags : mapping
        Argument, such as ``look_locker`` -> whether it is given.
    sequence : str
        As given by name.

    Raises
    ------
    ValueError
        If the two are of different sequences.
    """
    for flag, model in sequence_flags().items():
        if not flags.get(flag):
            continue
        if sequence not in ("", model.border.sequence):
            raise ValueError(
                f"`{flag}` stands for `sequence` {model.border.sequence}, and {sequence} is given."
            )
        sequence = model.border.sequence
    return sequence


def chosen_model(given: Mapping[str, Any], sequence: str = "") -> SignalModel:
    """Signal model that some options of columns belong to.

    Parameters
    ----------
    given : mapping
        Argument of a column, such as ``tis`` -> value; None where it is not given.
    sequence : str
        Sequence that is asked for by name; without it the options must tell.

    Raises
    ------
    ValueError
        If no model takes these options, or several do; if the sequence is unknown, or does not
        take an option or lacks one.
    """
    names = {option for option, value in given.items() if value is not None}
    if sequence:
        model = next((m for m in MODELS.values() if m.border.sequence == sequence), None)
        if model is None:
            known = ", ".join(m.border.sequence for m in MODELS.values())
            raise ValueError(f"no sequence is called {sequence!r}; there are: {known}.")
        _check_columns(model, names)
        return model
    fitting = [m for m in MODELS.values() if not m.border.only_by_name and _takes(m, names)]
    if names and len(fitting) == 1:
        return fitting[0]
    ways = ", or ".join(
        " and ".join(f"{c.words} with `{c.option}`" for c in m.border.columns if c.default is None)
        for m in MODELS.values()
        if not m.border.only_by_name
    )
    if not names:
        raise ValueError(f"give {ways}.")
    received = " and ".join(f"`{name}`" for name in sorted(names))
    if fitting:
        sequences = ", ".join(m.border.sequence for m in fitting)
        raise ValueError(
            f"{received} belong to several sequences; give one as `sequence`: {sequences}."
        )
    short = [
        m for m in MODELS.values() if not m.border.only_by_name and names < set(m.border.options)
    ]
    if len(short) == 1:
        needed = f"{short[0].border.title} needs {_missing(short[0], names)}"
        raise ValueError(f"{received} belong to no one signal model: {needed}.")
    raise ValueError(f"{received} belong to no one signal model; give {ways}.")


def _missing(model: SignalModel, names: set[str]) -> str:
    """Columns that are not given, and how to give them."""
    columns = [c for c in model.border.columns if c.option not in names and c.default is None]
    return " and ".join(f"{c.words}, too: give `{c.option}`" for c in columns)


def _takes(model: SignalModel, names: set[str]) -> bool:
    needed = {column.option for column in model.border.columns if column.default is None}
    return needed <= names <= set(model.border.options)


def _check_columns(model: SignalModel, names: set[str]) -> None:
    columns = {column.option: column for column in model.border.columns}
    for name in sorted(names - columns.keys()):
        raise ValueError(
            f"`{name}` does not belong to {model.border.title}, which takes "
            f"{', '.join(f'`{option}`' for option in columns)}."
        )
    for option, column in columns.items():
        if option not in names and column.default is None:
            raise ValueError(f"{model.border.title} needs {column.words}: give `{option}`.")
