curl --fail-with-body -H "Authorization: Bearer @TOKEN@" "@URL@/api/v1/events" -d '{
  "kind": "process_start", "occurred_at": "'"$(date -u +%Y-%m-%dT%H:%M:%SZ)"'", "host": {"name": "ws-0412"},
  "process": {"pid": 4120, "image": "C:\\Windows\\System32\\notepad.exe", "command_line": "notepad.exe"}}'
