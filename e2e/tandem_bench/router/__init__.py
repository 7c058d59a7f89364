"""The router beside its peers, in front of mock engines, in one run."""
