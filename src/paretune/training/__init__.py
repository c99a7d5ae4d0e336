"""Training: read ``loop.py`` first, then ``forward/plain.py``.

``trainer`` trains runs, alone or several at once, in a ``session``; each run has a ``slot`` with
its ``run_state`` and ``run_config``. ``forward/`` runs examples through the model, ``fleet/`` puts
several runs on one backbone, ``evaluation/`` scores them.
"""
