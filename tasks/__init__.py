"""Thin Prefect tasks, and the configuration that every layer above the libraries reads."""
