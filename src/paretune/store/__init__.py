"""The store of a study: one SQLite file is the truth, blobs lie beside it by content hash.

``storage.py`` is the contract, ``store.py`` its implementation by SQLite; the other files hold its
tables, rows and blobs. No torch.
"""

from paretune.store.record import Claim, Predictions, Record, RunStatus, StudyEntry
from paretune.store.storage import Storage
from paretune.store.store import Store

__all__ = ["Claim", "Predictions", "Record", "RunStatus", "Storage", "Store", "StudyEntry"]
