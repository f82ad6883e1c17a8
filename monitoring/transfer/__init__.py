"""Two domains: how far apart they are, what a model of one is worth on the other, what to do."""
