"""``python -m paretune``: the command line."""

from paretune.cli import main

main()
