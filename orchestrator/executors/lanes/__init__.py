"""Ray Tune hands trials to lanes, each with long-lived Ray Train workers."""
