"""Wires medvision and reports into an ablation; the only package that knows Ray and MLflow."""
