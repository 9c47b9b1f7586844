"""Fits of tests in one call: a measurement and its options by keyword."""

from relaxnet.fitting.inputs import Measurement
from relaxnet.fitting.options import FitOptions
from relaxnet.fitting.regularised import fit_fixed, fit_regularised, fit_shared
from relaxnet.fitting.voxelwise import fit_voxelwise

_MEASURED = ("sigma", "mask", "signed", "known", "spacing")


def _records(S, protocol, model, sigma, mask, fields):
    """Measurement, options and progress of keywords."""
    fields = {"sigma": sigma, "mask": mask, **fields}
    measured = {name: fields.pop(name) for name in _MEASURED if name in fields}
    progress = fields.pop("progress", None)
    return Measurement(S, protocol, model, **measured), FitOptions(**fields), progress


def voxelwise(S, protocol, model, sigma=None, mask=None, **fields):
    return fit_voxelwise(*_records(S, protocol, model, sigma, mask, fields))


def regularised(S, protocol, model, sigma=None, mask=None, **fields):
    return fit_regularised(*_records(S, protocol, model, sigma, mask, fields))


def shared(S, protocol, model, sigma=None, mask=None, **fields):
    return fit_shared(*_records(S, protocol, model, sigma, mask, fields))


def fixed(S, protocol, model, value, sigma=None, mask=None, **fields):
    measurement, options, progress = _records(S, protocol, model, sigma, mask, fields)
    return fit_fixed(measurement, value, options, progress)
