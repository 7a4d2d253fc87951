"""Does it help? Controlled comparisons of treatments on the user's own script."""
