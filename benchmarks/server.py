"""Server: a Redis of the benchmark's own, with the append-only file written each second, the same for every contender."""

from celery_tw.embedded import EmbeddedServer


def start_server() -> EmbeddedServer:
    """Return a fresh, empty server; it does not rewrite its file meanwhile, which would load the machine at a moment of its own choice."""
    return EmbeddedServer.start(config=("auto-aof-rewrite-percentage 0",))
