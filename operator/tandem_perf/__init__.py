"""The latency model and the arithmetic of latency objectives. Standard library only."""
