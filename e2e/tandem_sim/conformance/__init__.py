"""What of the API works with which engine on which path: asked of running services, written as a table."""
