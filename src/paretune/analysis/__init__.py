"""What may be concluded from records: pure functions on plain values, without torch."""
