"""What a study has found: on the terminal, as one HTML page, as pictures. No torch."""

from paretune.report.build import Report, build
from paretune.report.page import html
from paretune.report.pictures import figures
from paretune.report.table import terminal

__all__ = ["Report", "build", "figures", "html", "terminal"]
