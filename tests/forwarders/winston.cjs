// winston-elasticsearch on the official JavaScript client; it keeps what could not be sent and asks for the cluster's health first.
const winston = require('winston');
const { ElasticsearchTransport } = require('winston-elasticsearch');
const { version } = require('winston-elasticsearch/package.json');
const { document, paced } = require('./probe.cjs');

const { PORT, TOKEN } = process.env;
let retries = 0;

const transport = new ElasticsearchTransport({
  index: 'winlogbeat',
  ensureIndexTemplate: false,
  flushInterval: 500,
  transformer: (log) => log.meta,
  clientOpts: { node: `http://127.0.0.1:${PORT}`, auth: { username: 'any', password: TOKEN } },
});
transport.on('warning', () => { retries += 1; });
// the writer does not tell whether a request of its is under way
let underWay = 0;
const { bulk } = transport.client;
transport.client.bulk = (...parameters) => {
  underWay += 1;
  return bulk.apply(transport.client, parameters).finally(() => { underWay -= 1; });
};
transport.on('error', (error) => { console.error(error); });
const logger = winston.createLogger({ transports: [transport] });

paced((n) => logger.info('event', document(n)), () => {
  let idle = 0;
  const waiting = setInterval(() => {
    idle = transport.bulkWriter.bulk.length > 0 || underWay > 0 ? 0 : idle + 1;
    if (idle < 3) return;
    clearInterval(waiting);
    console.log(JSON.stringify({ version, acknowledged: null, retries, holds: true }));
    process.exit(0);
  }, 1000);
});
