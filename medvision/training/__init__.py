"""Training of one model: loop, state of an unfinished one, losses, batches, saved weights."""
