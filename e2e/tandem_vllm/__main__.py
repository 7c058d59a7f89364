"""`python -m tandem_vllm`: make `.venv-vllm` unless it is there."""

import subprocess
import sys
import time

from tandem_vllm import environment, patches


def main() -> None:
    """Say what was done and how long it took; end with one line if it cannot be done."""
    begin = time.monotonic()
    try:
        made = environment.ensure()
    except (subprocess.SubprocessError, OSError, patches.PatchError) as error:
        sys.exit(f"cannot make {environment.VENV}: {error}")
    print(f"{environment.VENV.name}: {'made' if made else 'as it was'} ({time.monotonic() - begin:.0f} s)")


if __name__ == "__main__":
    main()
