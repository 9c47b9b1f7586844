"""relaxnet: T1 and T2 maps from weighted MR series, by network or by maximum likelihood.

`predict` works on arrays, `predict_files` on NIfTI files. Nothing heavy is imported before a name
is used, and TensorFlow not before a network is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from relaxsim import __version__

if TYPE_CHECKING:
    from relaxnet.file_prediction import predict_files
    from relaxnet.fit_options import FitOptions
    from relaxnet.maps import Maps
    from relaxnet.masks import automatic_mask
    from relaxnet.prediction import predict

__all__ = ["FitOptions", "Maps", "__version__", "automatic_mask", "predict", "predict_files"]

_HOMES = {
    "FitOptions": "relaxnet.fit_options",
    "Maps": "relaxnet.maps",
    "automatic_mask": "relaxnet.masks",
    "predict": "relaxnet.prediction",
    "predict_files": "relaxnet.file_prediction",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
