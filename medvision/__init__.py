"""Plain PyTorch for the ablation: data, models, language-model blocks, training, evaluation,
metrics.

This package knows nothing of Ray, MLflow, Optuna or the grid of trials. Importing it is cheap:
PyTorch and its friends are imported by the modules that compute with them.
"""
