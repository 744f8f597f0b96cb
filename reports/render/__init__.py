"""Tables as values, and the same in Markdown, LaTeX and HTML."""
