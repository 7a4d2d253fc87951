"""One file a place where runs can take place."""
