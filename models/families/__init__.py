"""Model families: one file each, a search space and a fit."""
