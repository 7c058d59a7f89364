"""Trains and measures the demo model `recall`: it answers `name?` with the value of a `name = value` line."""
