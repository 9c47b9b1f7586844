"""Public functions that need several wings."""

from relaxnet.prediction.files import predict_files

__all__ = ["predict_files"]
