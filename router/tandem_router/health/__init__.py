"""Which workers get no requests for now: circuit breakers, and outliers of their pool. Pure.

The clock is an argument. Legs report what came of them; the pipeline gets the names of the ejected workers.
"""
