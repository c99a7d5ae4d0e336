"""The commands, one file each, named as they are typed: ``export slobench`` is ``export_slobench``.

More files than elsewhere, since there are as many commands. Each declares its arguments, calls
:mod:`paretune.verbs` (or ``contrib``), and prints what it returns, as text or as JSON.
"""
