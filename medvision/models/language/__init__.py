"""A language-model block inside a vision network: its settings, its mappers, and the bridge that
holds both.
"""
