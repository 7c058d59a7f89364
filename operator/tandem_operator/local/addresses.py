"""A loopback address for every process, so that ports and arguments are the same here as in pods."""

import errno
import ipaddress
import socket
from collections.abc import Collection, Iterable

ROUTER = "127.0.0.1"
_WORKERS = ipaddress.ip_network("127.0.1.0/24")


class NoAddressError(OSError):
    """No loopback address can be had."""


def is_free(address: str, port: int) -> bool:
    """Whether a server could listen there now. Raises NoAddressError if this machine lacks the address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise NoAddressError(f"{address} is not an address of this machine") from error
            return False
    return True


def free_address(taken: Collection[str], ports: Iterable[int]) -> str:
    """The first worker address that is not in `taken` and on which nothing holds one of the ports."""
    wanted = list(ports)
    for host in _WORKERS.hosts():
        address = str(host)
        if address not in taken and all(is_free(address, port) for port in wanted):
            return address
    raise NoAddressError(f"all addresses of {_WORKERS} are in use")
