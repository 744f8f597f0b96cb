"""Any tools' masks against the truth, as a study of its own: which trainings they come from, their
scores, and the record that reports are built from.
"""
