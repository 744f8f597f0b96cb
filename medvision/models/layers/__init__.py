"""Layers that several families share; they import torch."""
