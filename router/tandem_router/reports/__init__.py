"""What workers say of their own load: read from streams and from /metrics, kept with its age."""
