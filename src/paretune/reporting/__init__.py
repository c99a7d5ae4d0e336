"""What a study has found: on the terminal, as one HTML page, as pictures. No torch.

``build.build`` gathers it, ``table.terminal``, ``page.html`` and ``pictures.figures`` show it. This
file stays empty: the package's own ``__init__`` loads it first and then gives its name to the verb.
"""
