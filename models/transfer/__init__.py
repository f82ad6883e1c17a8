"""Learning for rows of another domain than the labelled ones: features, weights, alignment."""
