"""Counts gRPC calls: how many, how long, how they ended, and what was refused for which reason."""

from prometheus_client import CollectorRegistry, Counter, Histogram

CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class CallMetrics:
    """Every call of every served method. Methods and reasons come from code, never from callers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "atelier_grpc_calls", "Calls that ended, by status.", ["service", "method", "code"], registry=registry
        )
        self._seconds = Histogram(
            "atelier_grpc_call_seconds",
            "Time of calls, with all of a stream.",
            ["service", "method"],
            buckets=CALL_SECONDS,
            registry=registry,
        )
        self._refusals = Counter(
            "atelier_refusals",
            "Calls that ended with an error, by its reason, such as QUEUE_FULL.",
            ["reason"],
            registry=registry,
        )

    def observe(self, path: str, code: str, reason: str, seconds: float) -> None:
        """Adds a call.

        Args:
            path: /SERVICE/METHOD.
            code: The status' name.
            reason: Of the error; empty without one.
            seconds: From its arrival to its end.
        """
        service, _, method = path.removeprefix("/").partition("/")
        self._calls.labels(service, method, code).inc()
        self._seconds.labels(service, method).observe(seconds)
        if reason:
            self._refusals.labels(reason).inc()
