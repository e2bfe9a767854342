"""The OpenTelemetry SDK: a periodic reader and the OTLP/HTTP exporter; each export holds a GPU engine of each of 200 processes."""

import importlib.metadata
import json
import os
import time

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource

PROCESSES = 200
EXPORTS = int(os.environ["EVENTS"]) // PROCESSES
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
# as the windowsperfcounters receiver names it
view = View(instrument_name="gpu", name="\\GPU Engine(*)\\Utilization Percentage")
resource = Resource.create({"host.name": "ws-0001.corp.example"})
interval = float(os.environ["SECONDS"]) * 1000 / EXPORTS
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=interval, export_timeout_millis=120_000)
provider = MeterProvider(resource=resource, metric_readers=[reader], views=[view], shutdown_on_exit=False)
engines = [{"instance": f"pid_{4 * (n + 1)}_luid_0x0_0x1_phys_0_eng_1_engtype_Compute_0"} for n in range(PROCESSES)]
provider.get_meter("probe").create_observable_gauge("gpu", [lambda _: [Observation(40.0, engine) for engine in engines]])
while exports < EXPORTS:
    time.sleep(0.01)
provider.shutdown(timeout_millis=180_000)
version = importlib.metadata.version("opentelemetry-exporter-otlp-proto-http")
print(json.dumps({"version": version, "events": exports * PROCESSES, "acknowledged": acknowledged * PROCESSES, "retries": None}))
