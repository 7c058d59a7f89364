"""Runs an LLMService on this machine: the operator's manifests, with processes for pods."""
