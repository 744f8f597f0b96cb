"""How a case is shown to a network: one view for each protocol (`registry.VIEWS`)."""
