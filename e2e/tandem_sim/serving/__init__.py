"""The real router core over workers that take as long as a latency model says, in virtual time."""
