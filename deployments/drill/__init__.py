"""The failure drill: processes of a small real model, killed at each step, and what is left."""
