"""One file per activation function; see ``core.activation.Activation``."""
