"""The truth about a study: one SQLite file, and blobs beside it by the hash of their content."""

from paretune.store.record import Predictions, Record
from paretune.store.rows import Claim, RunState, StudyRow
from paretune.store.store import Store

__all__ = ["Claim", "Predictions", "Record", "RunState", "Store", "StudyRow"]
