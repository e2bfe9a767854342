"""The official client's bulk helper, as an application uses it: a chunk that fails is handed to it again."""

import json
import os
import time

import elasticsearch
from elasticsearch import helpers

from run import document, paced

client = elasticsearch.Elasticsearch(
    f"http://127.0.0.1:{os.environ['PORT']}", basic_auth=("any", os.environ["TOKEN"]), request_timeout=30
)
acknowledged = retries = 0
chunk = []


def deliver():
    global acknowledged, retries
    while True:
        try:
            done, _ = helpers.bulk(client, chunk, chunk_size=len(chunk))
            acknowledged += done
            chunk.clear()
            return
        except (elasticsearch.ApiError, elasticsearch.TransportError):
            retries += 1
            time.sleep(0.5)


for n in paced(int(os.environ["EVENTS"])):
    chunk.append({"_op_type": "create", "_index": "winlogbeat", "_source": document(n)})
    if len(chunk) == 500:
        deliver()
if chunk:
    deliver()
print(json.dumps({"version": elasticsearch.__versionstr__, "acknowledged": acknowledged, "retries": retries, "holds": True}))
