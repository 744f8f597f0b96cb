"""Statistics, tables, figures and claims from stored results. Knows no torch, Ray or MLflow."""
