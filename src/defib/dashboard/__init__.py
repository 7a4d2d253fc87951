"""The live page: a local server that shows records while they are written. Torch-free."""
