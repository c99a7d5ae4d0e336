"""Tables of a report: values that are computed when it is built, and table files."""
