// winston-elasticsearch on the official JavaScript client; it keeps what could not be sent and asks for the cluster's health first.
const winston = require('winston');
const { ElasticsearchTransport } = require('winston-elasticsearch');
const { version } = require('winston-elasticsearch/package.json');

const { PORT, TOKEN } = process.env;
const [events, seconds] = [Number(process.env.EVENTS), Number(process.env.SECONDS)];
let retries = 0;

const transport = new ElasticsearchTransport({
  index: 'winlogbeat',
  ensureIndexTemplate: false,
  flushInterval: 500,
  transformer: (log) => log.meta,
  clientOpts: { node: `http://127.0.0.1:${PORT}`, auth: { username: 'any', password: TOKEN } },
});
transport.on('warning', () => { retries += 1; });
transport.on('error', (error) => { console.error(error); });
const logger = winston.createLogger({ transports: [transport] });

const two = (n) => String(n).padStart(2, '0');
function document(n) {
  const second = Math.floor(n / 1000);
  return {
    '@timestamp': `2026-03-02T09:${two(Math.floor(second / 60) % 60)}:${two(second % 60)}.${String(n % 1000).padStart(3, '0')}Z`,
    winlog: {
      computer_name: 'ws-0001.corp.example',
      channel: 'Microsoft-Windows-Sysmon/Operational',
      provider_name: 'Microsoft-Windows-Sysmon',
      event_id: '1',
      record_id: n + 1,
      event_data: {
        ProcessGuid: `{5770385F-C22A-43E0-BF4C-${n.toString(16).toUpperCase().padStart(12, '0')}}`,
        ProcessId: String(4 + n),
        Image: 'C:\\Windows\\System32\\svchost.exe',
        CommandLine: `svchost.exe -k probe${n}`,
      },
    },
  };
}

let n = 0;
const began = Date.now();
const feeding = setInterval(() => {
  const due = Math.min(events, Math.ceil((events * (Date.now() - began)) / 1000 / seconds));
  for (; n < due; n += 1) logger.info('event', document(n));
  if (n === events) {
    clearInterval(feeding);
    const waiting = setInterval(() => {
      if (transport.bulkWriter.bulk.length > 0 || transport.bulkWriter.running) return;
      clearInterval(waiting);
      console.log(JSON.stringify({ version, acknowledged: null, retries, holds: true }));
      process.exit(0);
    }, 2000);
  }
}, 20);
