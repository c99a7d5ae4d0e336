"""File formats: from the bytes of a file to rows, strictly (:mod:`.read` chooses by extension)."""
