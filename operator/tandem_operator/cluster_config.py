"""Where the API server is and who we are to it, from the pod's service account or a kubeconfig."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from kubernetes import client, config


class NoClusterError(Exception):
    """Neither in a pod nor a usable kubeconfig."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One API server. `headers` is asked before every request, because tokens rotate."""

    url: str
    tls: ssl.SSLContext | bool
    headers: Callable[[], dict[str, str]]


def load() -> Cluster:
    """The cluster that this process belongs to, else the kubeconfig's; NoClusterError if there is none."""
    settings = client.Configuration()
    try:
        config.load_incluster_config(settings)
    except config.ConfigException:
        try:
            config.load_kube_config(client_configuration=settings)
        except config.ConfigException as error:
            raise NoClusterError(f"not in a pod, and no kubeconfig to use: {error}") from error
    return Cluster(settings.host.rstrip("/"), _tls(settings), lambda: _headers(settings))


def _headers(settings: client.Configuration) -> dict[str, str]:
    # The client library has kept the token under either name; asking also renews a token that is to end.
    names = ("BearerToken", "authorization")
    found = (settings.get_api_key_with_prefix(name) for name in names)
    return next(({"authorization": value} for value in found if value), {})


def _tls(settings: client.Configuration) -> ssl.SSLContext | bool:
    if not settings.verify_ssl:
        return False
    context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context
