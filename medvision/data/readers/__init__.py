"""Where the cases of a task lie: one reader for each layout of folders (`registry.READERS`)."""
