"""What the core does not import: the command line and entry points load it."""
