"""Llama, Qwen2 and Qwen3 in torch, over a paged KV cache."""
