"""The keys file: read again when it changes."""

import logging
from pathlib import Path

from tandem_router.access.keys import KeyRing, KeysError, parse_keys

CHECK_SECONDS = 1.0

_log = logging.getLogger(__name__)


class KeysFile:
    """Looks at the file's identity once a second, when somebody asks. A file that turned bad is not used."""

    def __init__(self, path: Path) -> None:
        """Raises KeysError, OSError or UnicodeDecodeError."""
        self._path = path
        self._next = 0.0
        self._seen = self._identity()
        self._ring = parse_keys(path.read_text())

    def ring(self, now: float) -> KeyRing:
        if now >= self._next:
            self._next = now + CHECK_SECONDS
            self._refresh()
        return self._ring

    def _refresh(self) -> None:
        try:
            seen = self._identity()
            if seen == self._seen:
                return
            self._seen = seen
            self._ring = parse_keys(self._path.read_text())
            _log.info("%d API keys", len(self._ring))
        except (KeysError, OSError, UnicodeDecodeError) as error:
            _log.error("the file of API keys is not used, the keys before it stay: %s", error)

    def _identity(self) -> tuple[int, int, int]:
        status = self._path.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size
