"""A quiet import of TensorFlow for the commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def import_tensorflow() -> None:
    """Import TensorFlow without the lines that its C++ part writes to standard error at start."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import tensorflow as tf

        tf.config.list_physical_devices()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
