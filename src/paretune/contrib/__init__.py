"""Modules that the core does not import: the command line and entry points load them."""
