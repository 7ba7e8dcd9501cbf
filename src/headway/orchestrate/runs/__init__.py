"""What runs: recorded, started, scheduled, repeated."""
