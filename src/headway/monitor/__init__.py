"""Is what is served still right?"""
