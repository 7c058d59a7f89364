"""`python -m tandem_vllm`: make `.venv-vllm` unless it is there."""

import time

from tandem_vllm import environment

if __name__ == "__main__":
    begin = time.monotonic()
    made = environment.ensure()
    print(f"{environment.VENV.name}: {'made' if made else 'as it was'} ({time.monotonic() - begin:.0f} s)")
