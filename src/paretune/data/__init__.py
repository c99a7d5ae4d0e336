"""From a file to examples: read strictly, build, audit, split. Needs no torch.

``formats/`` reads files into rows, ``sources/`` finds and downloads them, ``build`` makes examples
of rows, ``checks/`` audits a dataset, ``schema_inference/`` guesses what ``paretune new`` writes.
"""
