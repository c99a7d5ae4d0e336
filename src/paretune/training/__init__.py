"""Training: read ``loop.py`` first, then ``forward/plain.py``.

``trainer`` trains runs, alone or several at once, in a ``session``. ``runs/`` holds what one run
is: its job, settings, state and outcome. ``forward/`` runs examples through the model, ``fleet/``
puts several runs on one backbone, ``optimisation/`` changes their weights, ``evaluation/`` scores
them, ``recovery/`` is for what interrupts them: kills, memory that ends, divergence.
"""
