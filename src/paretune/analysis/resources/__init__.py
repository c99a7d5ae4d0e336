"""Memory and time: forecasts and breakdowns."""
