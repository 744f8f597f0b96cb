"""What a person sees while a study runs: progress on the terminal, log files."""
