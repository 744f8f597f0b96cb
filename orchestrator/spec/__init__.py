"""The YAML that a researcher writes, as values: settings, their checks and their reference."""
