"""A network of one's own, out of a file next to the spec."""
