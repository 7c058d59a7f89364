"""Sizes the pools for the objective: `plan` decides, `loop` carries it out."""
