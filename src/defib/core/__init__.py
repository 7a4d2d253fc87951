"""The nouns: plain data, standard library and numpy only."""
