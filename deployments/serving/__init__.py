"""The inference server: HTTP is a skin over slots that hold loaded models."""
