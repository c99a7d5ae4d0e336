"""From a file to token ids: read strictly, build, audit, split, encode, batch. No torch."""

from paretune.data.checks.audit import audit, audit_truncation
from paretune.data.example import Dataset, Example
from paretune.data.finding import Finding

__all__ = ["Dataset", "Example", "Finding", "audit", "audit_truncation"]
