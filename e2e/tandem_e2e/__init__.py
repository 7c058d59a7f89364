"""The end-to-end run on a real Kubernetes API server: `make e2e`."""
