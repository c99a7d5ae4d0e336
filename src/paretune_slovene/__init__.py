"""Slovene SuperGLUE, RSDO4, SloBench and the paper that paretune began with.

A second package of the same distribution. paretune finds it by its entry points alone: tasks,
METEOR, the preset ``paper``, a table of the report, study files, and the commands ``data fetch``,
``export slobench`` and ``slobench``. From Python::

    from paretune_slovene import export_slobench

    export_slobench(study)   # its best runs answer SloBench's test rows, in a checked zip
"""

from paretune_slovene.slobench.export_submission import export_slobench

__all__ = ["export_slobench"]
