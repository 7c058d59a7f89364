"""TLS for clients: a certificate and its key from files, read again when they change."""

import asyncio
import logging
import ssl
from pathlib import Path

RELOAD_SECONDS = 10.0
HANDSHAKE_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Certificate:
    """`context` serves new connections with what the files held last. Raises OSError, as ssl.SSLError is."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._seen = self._stamps()
        self._load()

    def refresh(self) -> bool:
        """Reads the files again if they have changed; says whether it did. Bad ones leave what there was."""
        try:
            now = self._stamps()
            if now == self._seen:
                return False
            self._seen = now
            self._load()
        except OSError as error:
            _log.warning("the certificate stays as it was: %s", error)
            return False
        _log.info("the certificate was read again")
        return True

    async def follow(self) -> None:
        """Refreshes until cancelled."""
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            self.refresh()

    def _load(self) -> None:
        certificate, key = self._files
        # A second context first: half of a new pair must not replace half of the old one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        self.context.load_cert_chain(certificate, key)

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        stats = [file.stat() for file in self._files]
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in stats)
