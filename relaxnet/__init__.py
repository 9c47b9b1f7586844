"""relaxnet: T1 and T2 maps from weighted MR series, by network or by maximum likelihood.

`predict` works on arrays, `predict_files` on NIfTI files. Nothing heavy is imported before a name
is used, and TensorFlow not before a network is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relaxnet.api import predict_files
    from relaxnet.fitting.options import FitOptions
    from relaxnet.maps.maps import Maps
    from relaxnet.prediction.arrays import predict
    from relaxnet.series.foreground import automatic_mask
    from relaxsim.core.version import __version__

__all__ = ["FitOptions", "Maps", "__version__", "automatic_mask", "predict", "predict_files"]

_HOMES = {
    "__version__": "relaxsim.core.version",
    "FitOptions": "relaxnet.fitting.options",
    "Maps": "relaxnet.maps.maps",
    "automatic_mask": "relaxnet.series.foreground",
    "predict": "relaxnet.prediction.arrays",
    "predict_files": "relaxnet.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
