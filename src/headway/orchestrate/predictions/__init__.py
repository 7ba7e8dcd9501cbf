"""Predictions in batches, and what they turned out to be."""
