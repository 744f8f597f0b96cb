"""A stand-in for nnunetv2 in fast tests: the functions that a trial calls, with the same arguments,
folders, files and names of attributes, for a "network" that is one threshold. What the real one
does with them is tests/orchestrator/trial/test_nnunet_itself.py's.
"""
