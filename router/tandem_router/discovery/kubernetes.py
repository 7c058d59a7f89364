"""Workers from a watch on a service's pods, which runs in a thread because the client library blocks."""

import asyncio
import threading
from collections.abc import Sequence

from kubernetes import client, config

from tandem_router.discovery import DiscoveryError, Publish
from tandem_router.discovery.watch import PodWatch
from tandem_router.types import Endpoint


def load_configuration() -> client.Configuration:
    """The pod's service account, else the kubeconfig. Raises DiscoveryError if there is neither."""
    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        try:
            config.load_kube_config(client_configuration=configuration)
        except config.ConfigException as error:
            raise DiscoveryError(f"no Kubernetes API to ask: {error}") from error
    return configuration


class PodDiscovery:
    """Follows the pods of one service."""

    def __init__(
        self, namespace: str, service: str, model: str, configuration: client.Configuration | None = None
    ) -> None:
        self._namespace, self._service, self._model = namespace, service, model
        self._configuration = configuration

    async def run(self, publish: Publish) -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def hand_over(endpoints: Sequence[Endpoint]) -> None:
            loop.call_soon_threadsafe(publish, endpoints)

        def follow() -> None:
            try:
                watch.run()
            except BaseException as error:
                loop.call_soon_threadsafe(_fail, ended, error)
                raise

        configuration = self._configuration or load_configuration()
        api = client.CoreV1Api(client.ApiClient(configuration))
        watch = PodWatch(api, self._namespace, self._service, self._model, hand_over)
        thread = threading.Thread(target=follow, name="pod-watch", daemon=True)
        thread.start()
        try:
            await ended
        finally:
            watch.stop()


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
