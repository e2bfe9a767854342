"""The OpenTelemetry SDK: a periodic reader and the OTLP/HTTP exporter; each export is one sample of one process."""

import importlib.metadata
import json
import os
import time

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

exports = acknowledged = 0


class Counting(OTLPMetricExporter):
    def export(self, *arguments, **named):
        global exports, acknowledged
        exports += 1
        result = super().export(*arguments, **named)
        acknowledged += result is MetricExportResult.SUCCESS
        return result


exporter = Counting(
    endpoint=f"http://127.0.0.1:{os.environ['PORT']}/v1/metrics",
    headers={"authorization": f"Bearer {os.environ['TOKEN']}"},
    timeout=120,
)
resource = Resource.create({"host.name": "ws-0001.corp.example", "process.pid": 4120})
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=50, export_timeout_millis=120_000)
provider = MeterProvider(resource=resource, metric_readers=[reader], shutdown_on_exit=False)
seconds = provider.get_meter("probe").create_counter("process.cpu.time", unit="s")
end = time.monotonic() + float(os.environ["SECONDS"])
while time.monotonic() < end:
    seconds.add(0.01, {"state": "user"})
    time.sleep(0.01)
provider.shutdown(timeout_millis=180_000)
version = importlib.metadata.version("opentelemetry-exporter-otlp-proto-http")
print(json.dumps({"version": version, "events": exports, "acknowledged": acknowledged, "retries": None}))
