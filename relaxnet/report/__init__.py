"""Pages and pictures from a folder of maps."""

from relaxnet.report.page import write_report

__all__ = ["write_report"]
