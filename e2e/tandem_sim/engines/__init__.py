"""HTTP engines without a GPU that keep the hand-over protocols of real ones, with faults on demand.

Their text follows from the prompt alone, so the same request gives the same text wherever it runs; KV that is
gone means what it means to the real engine: other text, an error, or a wait. Handles are
counted until they end.
"""
