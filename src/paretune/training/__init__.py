"""Training: read ``loop.py`` first, then ``forward/plain.py``.

``trainer`` trains runs, alone or several at once, in a ``session``. ``runs/`` holds what one run
is: its settings, optimizer, state and outcome. ``forward/`` runs examples through the model,
``fleet/`` puts several runs on one backbone, ``evaluation/`` scores them, ``recovery/`` is for what
interrupts them: checkpoints, signals, memory that ends.
"""
