"""The report as JSON; ``json_fields`` documents every field."""
