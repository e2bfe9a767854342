"""A logging handler for Splunk that sends again what was answered with 503."""

import importlib.metadata
import json
import logging
import os

from splunk_handler import SplunkHandler, force_flush

from run import document, paced

acknowledged = retries = 0


def answered(response, *_, **__):
    global acknowledged, retries
    retries += len(response.raw.retries.history)
    if response.status_code == 200 and response.json()["code"] == 0:
        body = response.request.body
        acknowledged += (body.encode() if isinstance(body, str) else body).count(b'"event":')


handler = SplunkHandler(
    host="127.0.0.1", port=os.environ["PORT"], token=os.environ["TOKEN"], index="main", protocol="http", verify=False,
    flush_interval=0.5, queue_size=5000, force_keep_ahead=True, retry_count=40, retry_backoff=0.1, timeout=30,
)
handler.session.hooks["response"].append(answered)
log = logging.getLogger("probe")
log.setLevel(logging.INFO)
log.propagate = False
log.addHandler(handler)
for n in paced(int(os.environ["EVENTS"])):
    log.info(json.dumps(document(n)))
force_flush()
print(json.dumps({"version": importlib.metadata.version("splunk-handler"), "acknowledged": acknowledged, "retries": retries}))
