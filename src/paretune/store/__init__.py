"""The truth about a study: one SQLite file, and blobs beside it by the hash of their content."""

from paretune.store.record import Predictions, Record
from paretune.store.status import Claim, RunStatus, StudyEntry
from paretune.store.store import Store

__all__ = ["Claim", "Predictions", "Record", "RunStatus", "Store", "StudyEntry"]
