"""For whoever writes a backend: the suites every backend of a kind must pass, and an oracle to hold results against."""
