"""Benchmarks of the router beside its peers: `make bench-router`."""
