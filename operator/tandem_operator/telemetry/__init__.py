"""Where the planner's observations come from: a Prometheus, or the pods' own `/metrics`."""
