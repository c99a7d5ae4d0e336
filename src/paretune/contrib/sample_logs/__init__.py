"""Sample logs of evaluation harnesses, compared pair by pair: :mod:`.comparison`."""
