"""Parts of the package that the core does not import."""
