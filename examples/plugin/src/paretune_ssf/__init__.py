"""A plug-in of paretune: one method and one metric, found by their entry points."""
