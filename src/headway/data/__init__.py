"""Data: read, checked, turned into features, kept online."""
