"""TensorFlow and Keras: the one place that imports them, whatever the user's settings say.

Settings of Keras come from ``~/.keras/keras.json`` and the environment: another backend, another
type of float, channels first. The networks need TensorFlow as the backend; it is asked for here
while both are imported (TensorFlow imports Keras), and the environment is then as it was. Types and
layout are arguments of each layer of the networks, so that the user's other settings neither matter
nor change.

Modules take both from here: ``from relaxnet.networks.frameworks import keras, tf``.
"""

from __future__ import annotations

import sys

from relaxnet.networks.network_file import ModelError
from relaxsim.core.environment import environment

__all__ = ["keras", "tf"]

BACKEND = "tensorflow"


def _check_backend(backend: str) -> None:
    """Refuse another backend, which the program that calls has imported before."""
    if backend != BACKEND:
        raise ModelError(
            f"Keras runs on {backend} in this program; expected {BACKEND}, which the networks are "
            f"made for. Set KERAS_BACKEND={BACKEND} before keras is imported, or take `method` mle."
        )


if "keras" in sys.modules:
    _check_backend(sys.modules["keras"].backend.backend())
with environment({"KERAS_BACKEND": BACKEND}):
    try:
        import keras
        import tensorflow as tf
    except (AssertionError, AttributeError, TypeError) as error:
        raise ModelError(
            "Keras cannot be imported with the settings in ~/.keras/keras.json "
            f"({type(error).__name__}). Mend or remove that file."
        ) from None
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError):
            raise
        raise ModelError(  # a limit of memory, or a library of the system that does not suit
            f"TensorFlow cannot be loaded ({' '.join(str(error).split())[:120]}); take `method` "
            "mle, which does without."
        ) from None
_check_backend(keras.backend.backend())
