"""Watching models in production."""
