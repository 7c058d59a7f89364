"""Real vLLM engines behind the router: `make e2e-vllm`."""
