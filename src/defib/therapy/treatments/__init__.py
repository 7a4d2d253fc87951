"""One file a treatment."""
