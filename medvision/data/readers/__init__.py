"""Where cases lie: one reader a layout of folders."""
