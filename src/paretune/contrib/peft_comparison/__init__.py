"""peft's own method_comparison with intervals and tests: ``paretune peft-results``.

Part of the package and not of its core: only the command line uses it. Nothing of peft is imported.
"""
