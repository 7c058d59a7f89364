"""An HTTP engine without a GPU that speaks vLLM's NixlConnector protocol or the native worker's, with faults.

Its text follows from the prompt alone, so the same request gives the same text wherever it runs; a decode leg
whose KV is gone gives other text, as a real engine would. Handles are counted until they end.
"""
