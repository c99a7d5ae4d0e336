"""Methods that every other method must beat."""
