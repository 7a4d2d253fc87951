"""Proofs about a model's units on a set of inputs."""
