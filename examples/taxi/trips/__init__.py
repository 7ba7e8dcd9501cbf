"""How long will this trip take? New York green cabs, one model for each borough."""
