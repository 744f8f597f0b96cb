"""One attempt at one trial: prepare, train, predict, score, commit. The same in a lane and
in-process.
"""
