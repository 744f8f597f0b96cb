"""Plain PyTorch for the ablation: data, models, language-model blocks, training, evaluation,
metrics.

This package does not depend on Ray, MLflow, Optuna or the grid of trials. Importing it is cheap:
PyTorch and other large libraries are imported by the modules that compute with them.
"""
