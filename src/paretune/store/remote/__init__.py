"""A store that other machines work on: a service over it, and a client that is a ``Storage``.

Only the service touches SQLite. ``service`` answers requests, whatever brings them; ``http_server``
brings them by HTTP; ``client`` is the :class:`~paretune.store.storage.Storage` of a worker
elsewhere, over a ``transport``. docs/cluster.md describes the protocol.
"""
