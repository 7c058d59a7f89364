"""Who may ask for what: API keys, their limits, names of models, and caches that tenants do not share."""
