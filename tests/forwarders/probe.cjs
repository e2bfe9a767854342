// The numbered events of run.py, for clients in JavaScript.
const two = (n) => String(n).padStart(2, '0');

/** A Sysmon process start as Winlogbeat sends it. */
exports.document = (n) => {
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
};

/** Gives each number to `send` at the rate of the run, then calls `then`. */
exports.paced = (send, then) => {
  const [events, seconds] = [Number(process.env.EVENTS), Number(process.env.SECONDS)];
  const began = Date.now();
  let n = 0;
  const feeding = setInterval(() => {
    const due = Math.min(events, Math.ceil((events * (Date.now() - began)) / 1000 / seconds));
    for (; n < due; n += 1) send(n);
    if (n === events) {
      clearInterval(feeding);
      then();
    }
  }, 20);
};
