"""The tables and texts of a report, one module each."""
