"""The environment in which models are converted for the edge."""
