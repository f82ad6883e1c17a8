"""Drift of text columns: words, an embedding without any download, and two witnesses."""
