"""SloBench: its official scores, checks of a submission, and submissions made from a study."""
