"""Questions that need the live model: answers are plain data, and the model is left as it was."""
