"""Activations and initialisers for use in models, in the style of ``torch.nn``."""
