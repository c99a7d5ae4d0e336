"""Types of answers, and of ways to give them: the words that studies and objectives share."""

from __future__ import annotations

from typing import Literal

Label = int | float | str
"""An index into the labels (or choices), the number that a regression predicts, or of several
labels a text of 0 and 1, a character for each (``0110``)."""
Answer = Label
"""A label, or the text of a translation."""
Readout = Literal["head", "label_words", "text", "reward", "likelihood"]
"""How a model answers: by a head; by the likelihood of each label's text; by a text it writes; of
preferences by the reward of each answer, or by its likelihood."""
LengthNormalisation = Literal["none", "characters", "bytes"]
"""The divisor of the log-likelihood of a text."""
