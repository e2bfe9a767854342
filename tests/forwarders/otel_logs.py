"""The OpenTelemetry SDK: a batch processor and the OTLP/HTTP exporter, whose own retries are all there is."""

import importlib.metadata
import json
import os

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from run import document, paced

acknowledged = failures = 0


class Counting(OTLPLogExporter):
    def export(self, batch):
        global acknowledged, failures
        result = super().export(batch)
        if result is LogRecordExportResult.SUCCESS:
            acknowledged += len(batch)
        else:
            failures += 1
        return result


events = int(os.environ["EVENTS"])
exporter = Counting(
    endpoint=f"http://127.0.0.1:{os.environ['PORT']}/v1/logs",
    headers={"authorization": f"Bearer {os.environ['TOKEN']}"},
    timeout=120,
    compression=Compression.Gzip,
)
provider = LoggerProvider(resource=Resource.create({"host.name": "ws-0001.corp.example"}), shutdown_on_exit=False)
processor = BatchLogRecordProcessor(exporter, max_queue_size=events + 1, schedule_delay_millis=200, max_export_batch_size=512)
provider.add_log_record_processor(processor)
logger = provider.get_logger("probe")
for n in paced(events):
    logger.emit(timestamp=1_772_442_000_000_000_000 + n, body=json.dumps(document(n)))
provider.force_flush(600_000)
provider.shutdown()
version = importlib.metadata.version("opentelemetry-exporter-otlp-proto-http")
print(json.dumps({"version": version, "acknowledged": acknowledged, "retries": None}))
