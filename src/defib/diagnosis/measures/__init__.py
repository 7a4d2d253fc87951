"""Quantities that several rules need, computed from a ``RunView``."""
