"""SloBench: its official scores, checks of a submission, and submissions made from a study.

Part of the package and not of its core: commands of the command line, ``paretune.export_slobench``
and a table of the report (entry point ``paretune.report_tables``).
"""
