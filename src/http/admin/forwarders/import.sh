# On the machine that runs Coalface; .evtx, .json, .ndjson, .gz, .zst, .zip and folders. No token is needed.
coalface import C/Windows/System32/winevt/Logs

# From elsewhere: the same files over the network, one line per event.
curl --fail-with-body -H "Authorization: Bearer @TOKEN@" -H "Content-Encoding: gzip" \
  "@URL@/api/v1/events" --data-binary @events.ndjson.gz
