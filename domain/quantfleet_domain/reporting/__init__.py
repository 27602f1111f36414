"""The report: its schema, and how it is put together from results."""
