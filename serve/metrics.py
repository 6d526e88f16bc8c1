"""What Prometheus asks for, at /metrics."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

# Seconds, from what an answer takes on an idle machine to what a request may take.
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_PICTURES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        # When a counter was made says nothing here; all are made at the start.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # theirs
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        text = "Requests for /predict, by the status of the answer."
        self.requests = Counter("classifier_requests", text, ["status"], registry=registry)
        text = "Requests that were refused, by reason."
        self.refused = Counter("classifier_refused", text, ["reason"], registry=registry)
        text = "Pictures that were answered, by version and class."
        self.answers = Counter("classifier_answers", text, ["version", "class"], registry=registry)
        text = "Requests that the model in the shadow did not answer."
        self.shadow_dropped = Counter("classifier_shadow_dropped", text, registry=registry)
        text = "From a request's headers to its answer."
        self.seconds = Histogram("classifier_seconds", text, buckets=_SECONDS, registry=registry)
        text = "Pictures that were computed together."
        self.batch = Histogram("classifier_batch_pictures", text, buckets=_PICTURES, registry=registry)
        text = "1 for each model in use."
        self.information = Gauge("classifier_version", text, ["version"], registry=registry)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge whose value is asked for when Prometheus asks."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self.registry)
