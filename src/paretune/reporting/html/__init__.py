"""The report as one HTML page: jinja templates, and the scripts that the page allows."""
