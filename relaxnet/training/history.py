"""History of a run: history.csv, and the same curves as TensorBoard events beside it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from relaxnet.networks.frameworks import tf
from relaxnet.training.settings import EVENTS, Progress, TrainingError
from relaxsim.core.files import read_text, write_whole

COLUMNS = ("iteration", "loss", "validation_loss", "learning_rate", "seconds")
CURVES = ("loss", "validation_loss", "learning_rate")


class History:
    """Rows of a run's iterations.

    Rows up to the iteration that a run resumes from are kept, later ones replaced. The event file
    holds the rows of the CSV file. It is written by `tf.summary.write`, since `tf.summary.scalar`
    needs the package tensorboard.

    Parameters
    ----------
    folder : pathlib.Path
        Of the run.
    start : int
        Iteration that the run goes on from; 0 begins anew.

    Raises
    ------
    TrainingError
        If the rows to go on from cannot be read.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self.folder = folder
        self.path = folder / "history.csv"
        self.rows: list[dict[str, Any]] = []
        if start and self.path.is_file():
            self.rows = [row for row in _read(self.path) if int(row["iteration"]) <= start]
        self.seconds = float(self.rows[-1]["seconds"]) if self.rows else 0.0
        self._writer: Any = None
        self._num_written = 0

    def add(self, progress: Progress) -> None:
        """Add a row."""
        value = progress.validation_loss
        self.rows.append(
            {
                "iteration": progress.iteration,
                "loss": f"{progress.loss:.6g}",
                "validation_loss": "" if value is None else f"{value:.6g}",
                "learning_rate": f"{progress.learning_rate:.4g}",
                "seconds": f"{self.seconds + progress.seconds:.2f}",
            }
        )

    def write(self) -> None:
        """Write the CSV file, and the rows that are new to the event file."""
        with write_whole(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
        self._write_events()

    def _write_events(self) -> None:
        """Write the rows that are new to the event file; a full disk is an `OSError`."""
        try:
            self._add_events()
        except tf.errors.OpError as error:
            reason = " ".join(str(error.message).split())
            raise OSError(f"{self.folder}: events cannot be written ({reason[:120]}).") from None

    def _add_events(self) -> None:
        if self._writer is None:
            for old in self.folder.glob(EVENTS):
                old.unlink()
            self._writer = tf.summary.create_file_writer(str(self.folder))
        proto = tf.compat.v1.SummaryMetadata
        scalar = proto(plugin_data=proto.PluginData(plugin_name="scalars"))
        with self._writer.as_default():
            for row in self.rows[self._num_written :]:
                for name in CURVES:
                    if row[name] != "":
                        step = int(row["iteration"])
                        value = tf.constant(float(row[name]), tf.float32)
                        tf.summary.write(name, value, step, metadata=scalar)
        self._num_written = len(self.rows)
        self._writer.flush()


def _read(path: Path) -> list[dict[str, Any]]:
    """Rows of a history, whose columns and numbers are those that are written.

    Raises
    ------
    TrainingError
        If they are not.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path))))
        for row in rows:
            if tuple(row) != COLUMNS or int(row["iteration"]) < 0:
                raise ValueError("a row has other columns")
            for name in COLUMNS[1:]:
                if not (name == "validation_loss" and row[name] == ""):
                    float(row[name])
    except (ValueError, TypeError, csv.Error) as error:
        reason = " ".join(str(error).split())[:100]
        raise TrainingError(
            f"{path} cannot be read ({reason}). Delete it, and the run goes on without its rows."
        ) from None
    return rows
