"""A quiet import of TensorFlow and Keras for the commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from relaxsim.core.environment import environment


def import_tensorflow() -> None:
    """Import both without the lines that TensorFlow's C++ part writes to standard error at start.

    A command neither reads the user's settings of Keras nor writes a file of them: Keras looks for
    them in a place that has none. What the networks need of settings is asked for where Keras is
    imported (`relaxnet.networks.frameworks`).
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        with environment({"KERAS_HOME": os.devnull}):
            from relaxnet.networks.frameworks import tf

        tf.config.list_physical_devices()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
