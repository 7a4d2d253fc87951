"""Normalisation that can be put into a network which was written without it."""

import torch
from torch import Tensor, nn


class UnitNorm(nn.Module):
    """Batch normalisation of each unit, whatever shape the layer's output has.

    As ``nn.BatchNorm1d`` over every axis but the unit's. Where a batch holds a
    single value for each unit, for which a variance does not exist, the running
    statistics are used, and not an error raised.

    Args:
        units: Length of the unit axis.
        channels: The units lie along axis 1 (convolutions), else along the last.
        affine: Learn a scale and an offset for each unit.
    """

    def __init__(self, units: int, channels: bool = False, affine: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(units, affine=affine)
        self.channels = channels

    def forward(self, input: Tensor) -> Tensor:
        """Normalised, of the shape of ``input``."""
        moved = input.movedim(1, -1) if self.channels else input
        flat = moved.reshape(-1, moved.shape[-1])
        norm = self.norm
        if self.training and len(flat) < 2:
            mean, var = norm.running_mean, norm.running_var
            done = nn.functional.batch_norm(flat, mean, var, norm.weight, norm.bias, False, 0.0, norm.eps)
        else:
            done = norm(flat)
        done = done.reshape(moved.shape)
        return done.movedim(-1, 1) if self.channels else done


class Standardise(nn.Module):
    """(x - mean) / std with fixed numbers, one for each feature along the last axis, or axis 1.

    Args:
        mean: Shape (F,).
        std: Shape (F,); zeros count as 1.
        channels: The features lie along axis 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, channels: bool = False) -> None:
        super().__init__()
        self.register_buffer("mean", mean.detach().clone())
        self.register_buffer("std", torch.where(std > 0, std, torch.ones_like(std)))
        self.channels = channels

    def forward(self, input: Tensor) -> Tensor:
        """Standardised, of the shape of ``input``."""
        shape = (-1, *([1] * (input.ndim - 2))) if self.channels else (-1,)
        return (input - self.mean.view(shape)) / self.std.view(shape)
