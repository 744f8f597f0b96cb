"""Ray Tune hands trials to lanes, each one long-lived group of Ray Train workers."""
