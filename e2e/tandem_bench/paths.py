"""Where things are: sources in the package, everything that is made below an ignored cache."""

from pathlib import Path

PACKAGE = Path(__file__).parent
REPO = PACKAGE.parent.parent
NATIVE = PACKAGE / "native"
STANDINS = PACKAGE / "standins"
CACHE = REPO / ".cache" / "bench"
