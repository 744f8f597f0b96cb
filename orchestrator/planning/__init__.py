"""From a spec to trials: what is known of the inputs, which trials exist, what they cost, which
wait.
"""
