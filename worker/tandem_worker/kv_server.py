"""Serves the KV service over gRPC."""

import grpc

from tandem_wire import kv_pb2_grpc
from tandem_worker.errors import ConfigError
from tandem_worker.kv_service import KvService
from tandem_worker.transfer.chunks import max_message_bytes
from tandem_worker.worker import Worker

MAX_REQUEST_BYTES = 1 << 20
MAX_CALLS = 512


async def start_kv_server(worker: Worker) -> tuple[grpc.aio.Server, int]:
    """Listens where the settings say; returns the port too. ConfigError: the address cannot be had."""
    settings = worker.settings
    server = grpc.aio.server(
        maximum_concurrent_rpcs=MAX_CALLS,
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
            ("grpc.max_send_message_length", max_message_bytes(worker.layout)),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ],
    )
    kv_pb2_grpc.add_WorkerServicer_to_server(KvService(worker), server)
    host = f"[{settings.kv_host}]" if ":" in settings.kv_host else settings.kv_host
    try:
        port = server.add_insecure_port(f"{host}:{settings.kv_port}")
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {host}:{settings.kv_port} for KV: {error}") from error
    await server.start()
    return server, port
