"""From a run to findings: arrays in, data out."""
