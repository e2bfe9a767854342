// The OpenTelemetry SDK for JavaScript: JSON, sent in chunks; its exporter tries five times and then drops the batch.
const { LoggerProvider, BatchLogRecordProcessor } = require('@opentelemetry/sdk-logs');
const { OTLPLogExporter } = require('@opentelemetry/exporter-logs-otlp-http');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { document, paced } = require('./probe.cjs');

const version = '0.223.1';
const { PORT, TOKEN } = process.env;
let acknowledged = 0;
let failed = 0;

const exporter = new OTLPLogExporter({
  url: `http://127.0.0.1:${PORT}/v1/logs`,
  headers: { authorization: `Bearer ${TOKEN}` },
  timeoutMillis: 60000,
});
const send = exporter.export.bind(exporter);
exporter.export = (batch, callback) => send(batch, (result) => {
  if (result.code === 0) acknowledged += batch.length;
  else { failed += 1; console.error(String(result.error)); }
  callback(result);
});
const processor = new BatchLogRecordProcessor({
  exporter, maxQueueSize: Number(process.env.EVENTS), maxExportBatchSize: 512, scheduledDelayMillis: 200, exportTimeoutMillis: 60000,
});
const provider = new LoggerProvider({
  resource: resourceFromAttributes({ 'host.name': 'ws-0001.corp.example' }), processors: [processor],
});
const logger = provider.getLogger('probe');
paced((n) => logger.emit({ timestamp: 1772442000000 + n, body: JSON.stringify(document(n)) }), async () => {
  await provider.forceFlush();
  await provider.shutdown();
  console.log(JSON.stringify({ version, acknowledged, retries: failed }));
  process.exit(0);
});
