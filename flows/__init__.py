"""Prefect flows: each reads like one row of the loop's diagram."""
