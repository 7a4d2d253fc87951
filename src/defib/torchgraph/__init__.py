"""What capture and probe both need to know about nodes of the autograd graph. Judges nothing."""
