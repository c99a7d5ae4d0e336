"""The paper that paretune began with: its protocol as a preset, its conclusions as data.

Part of the package and not of its core: the preset is loaded by an entry point
(``paretune.protocols``), the rest by ``examples/paper_reread.py``.
"""
