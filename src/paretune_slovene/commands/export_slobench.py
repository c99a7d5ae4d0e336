"""``paretune export slobench``: from a finished study to the files that SloBench takes."""

from paretune_slovene.slobench.export_submission import export_slobench

__all__ = ["export_slobench"]
