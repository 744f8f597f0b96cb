"""Ways to run trials: in Ray lanes on a cluster, or one after the other in this process."""
