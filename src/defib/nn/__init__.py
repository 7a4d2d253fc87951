"""Activations and initialisers for use in models, in the style of ``torch.nn``."""

from defib.nn.activations import Abs, Mixed, NecroReLU, SugarReLU
from defib.nn.initialisers import gain_of, he_, lecun_, lsuv_, orthogonal_, xavier_
from defib.nn.norms import Standardise, UnitNorm

__all__ = [
    "Abs",
    "Mixed",
    "NecroReLU",
    "Standardise",
    "SugarReLU",
    "UnitNorm",
    "gain_of",
    "he_",
    "lecun_",
    "lsuv_",
    "orthogonal_",
    "xavier_",
]
