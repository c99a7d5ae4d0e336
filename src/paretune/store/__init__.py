"""The store of a study: one SQLite file is the truth, blobs lie beside it by content hash.

``store.py`` is what others use; the other files hold its tables, rows and blobs. No torch.
"""

from paretune.store.record import Claim, Predictions, Record, RunStatus, StudyEntry
from paretune.store.store import Store

__all__ = ["Claim", "Predictions", "Record", "RunStatus", "Store", "StudyEntry"]
