#!/usr/bin/env python3
"""Real forwarders against a real `coalface serve` that is killed and overloaded while they send.

For each client: a fresh embedded database, FAULTS kills with -9 and restarts, one spell without a database (the answer is then
503), and a count at the end. Every event has a number; each is worth the same everywhere: one process start.

acknowledged  what the client itself counts as delivered (daemons do not tell: "-")
lost          acknowledged, or held by a client that keeps what it could not deliver, and not stored: must be 0
double        stored more than once: must be 0
dropped       given up by the client by its own rules, and not stored
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
WORK = pathlib.Path(os.environ["FORWARDERS"])
PROGRAM = os.environ["COALFACE_BIN"]
EVENTS = int(os.environ.get("EVENTS", "100000"))
FAULTS = int(os.environ.get("FAULTS", "5"))
# the traffic must last long enough for every fault to strike it
SECONDS = float(os.environ.get("SECONDS", "45"))
OVERLOAD = 10
# longest wait for a daemon that makes no progress
PATIENCE = 120


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, folder):
        self.folder = folder
        self.pages, self.port = free_port(), free_port()
        self.environment = dict(
            os.environ,
            COALFACE_DATA=str(folder / "data"),
            COALFACE_LISTEN=f"127.0.0.1:{self.pages}",
            COALFACE_INGEST_LISTEN=f"127.0.0.1:{self.port}",
        )
        self.environment.pop("DATABASE_URL", None)
        self.log = open(folder / "serve.log", "ab")
        self.start()
        self.token = self.command("token", "create", "--name", "forwarder", "--scope", "ingest").strip()

    def command(self, *arguments):
        return subprocess.run(
            [PROGRAM, *arguments], env=self.environment, check=True, stdout=subprocess.PIPE, stderr=self.log, text=True
        ).stdout

    def start(self):
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--role", "web,ingest"], env=self.environment, stdout=self.log, stderr=self.log
        )
        for _ in range(600):
            if self.process.poll() is not None:
                raise RuntimeError(f"serve ended with {self.process.returncode}; see {self.folder}/serve.log")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.pages}/readyz", timeout=2).close()
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("serve did not become ready")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

    def socket(self):
        return next(self.folder.glob("data/**/.s.PGSQL.*")).parent

    def postgres(self):
        """Pids of the database server and its children, the server first."""
        postmaster = int(next(self.folder.glob("data/**/postmaster.pid")).read_text().split()[0])
        children = subprocess.run(["pgrep", "-P", str(postmaster)], capture_output=True, text=True).stdout.split()
        return [postmaster, *map(int, children)]

    def overload(self):
        """Holds the database still; answers whether a sender was told to come back."""
        held = self.postgres()
        for pid in held:
            os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(OVERLOAD / 2)
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.port}/api/v1/events", b"[]", {"authorization": f"Bearer {self.token}"}
            )
            try:
                urllib.request.urlopen(request, timeout=10).close()
                refused = False
            except urllib.error.HTTPError as error:
                refused = error.code == 503 and error.read() == b"busy, retry later\n"
            time.sleep(OVERLOAD / 2)
        finally:
            for pid in held:
                os.kill(pid, signal.SIGCONT)
        return refused

    def query(self, sql):
        psql = [*os.environ["PSQL"].split(), "-h", str(self.socket()), "-U", "postgres", "-d", "coalface", "-AtF", " ", "-c", sql]
        return [int(n) for n in subprocess.run(psql, check=True, capture_output=True, text=True).stdout.split()]


class Faults(threading.Thread):
    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.struck, self.refused, self.error = server, 0, False, None
        self.over = threading.Event()

    def run(self):
        gap = SECONDS / (FAULTS + 2)
        try:
            for _ in range(FAULTS):
                if self.over.wait(gap):
                    return
                self.server.kill()
                self.server.start()
                self.struck += 1
            if not self.over.wait(gap):
                self.refused = self.server.overload()
        except Exception as error:
            self.error = error


def document(n):
    """A Sysmon process start as Winlogbeat sends it."""
    at = f"2026-03-02T09:{n // 1000 // 60 % 60:02}:{n // 1000 % 60:02}.{n % 1000:03}Z"
    return {
        "@timestamp": at,
        "winlog": {
            "computer_name": "ws-0001.corp.example",
            "channel": "Microsoft-Windows-Sysmon/Operational",
            "provider_name": "Microsoft-Windows-Sysmon",
            "event_id": "1",
            "record_id": n + 1,
            "event_data": {
                "ProcessGuid": f"{{5770385F-C22A-43E0-BF4C-{n:012X}}}",
                "ProcessId": str(4 + n),
                "Image": "C:\\Windows\\System32\\svchost.exe",
                "CommandLine": f"svchost.exe -k probe{n}",
            },
        },
    }


def paced(count):
    """Numbers at the rate of the run."""
    began = time.monotonic()
    for n in range(count):
        if n % 100 == 0:
            time.sleep(max(0, began + n * SECONDS / count - time.monotonic()))
        yield n


STARTS = "select count(*), count(distinct command_line) from process_start"
SAMPLES = "select count(*), count(distinct (occurred_at, pid)) from cpu_sample"


def python(script):
    return lambda server, folder: program([str(WORK / "venv/bin/python"), str(HERE / script)], server, folder)


def node(script):
    return lambda server, folder: program(["node", str(HERE / script)], server, folder, NODE_PATH=str(WORK / "npm/node_modules"))


def program(command, server, folder, **more):
    environment = dict(
        os.environ, PYTHONPATH=str(HERE), PORT=str(server.port), TOKEN=server.token, EVENTS=str(EVENTS), SECONDS=str(SECONDS), **more
    )
    with open(folder / "client.log", "ab") as log:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, timeout=SECONDS * 20 + 600)
    if done.returncode:
        raise RuntimeError(f"the client ended with {done.returncode}; see {folder}/client.log")
    return json.loads(done.stdout.splitlines()[-1])


def daemon(template, command, version):
    """A log daemon that follows a file, to which events are appended."""

    def run(server, folder):
        events = folder / "events.json"
        events.touch()
        (folder / "state").mkdir()
        config = (HERE / template).read_text()
        for name, value in {"PORT": str(server.port), "TOKEN": server.token, "FOLDER": str(folder), "ROOT": str(WORK / "root")}.items():
            config = config.replace(f"@{name}@", value)
        path = folder / template
        path.write_text(config)
        root = WORK / "root"
        libraries = ":".join(str(root / p) for p in ["usr/lib/x86_64-linux-gnu", "usr/lib/syslog-ng", "lib/x86_64-linux-gnu"])
        environment = dict(os.environ, LD_LIBRARY_PATH=libraries)
        words = [word.format(root=root, config=path, folder=folder) for word in command]
        told = subprocess.run([str(root / version[0]), *version[1:]], env=environment, capture_output=True, text=True).stdout
        with open(folder / "client.log", "ab") as log:
            process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        try:
            with open(events, "a", buffering=1 << 16) as out:
                for n in paced(EVENTS):
                    out.write(json.dumps(document(n)) + "\n")
                    if n % 100 == 99:
                        out.flush()
            before, since = -1, time.monotonic()
            while time.monotonic() - since < PATIENCE:
                if process.poll() is not None:
                    raise RuntimeError(f"the daemon ended with {process.returncode}; see {folder}/client.log")
                try:
                    stored = server.query(STARTS)[1]
                except (subprocess.CalledProcessError, StopIteration):
                    stored = before
                if stored == EVENTS:
                    break
                if stored != before:
                    before, since = stored, time.monotonic()
                time.sleep(1)
        finally:
            process.terminate()
            process.wait(30)
        words = told.split("\n")[0].replace("(", " ").replace(")", " ").replace(",", " ").split()
        return {"version": next((w for w in words if w.count(".") > 1), "?"), "acknowledged": None, "retries": None, "holds": True}

    return run


CLIENTS = {
    "elasticsearch-py bulk": (python("elasticsearch_bulk.py"), STARTS),
    "OTel Python logs": (python("otel_logs.py"), STARTS),
    "OTel Python metrics": (python("otel_metrics.py"), SAMPLES),
    "OTel JavaScript logs": (node("otel_logs.cjs"), STARTS),
    "splunk-handler HEC": (python("splunk_hec.py"), STARTS),
    "winston-elasticsearch": (node("winston.cjs"), STARTS),
    "rsyslog omelasticsearch": (
        daemon("rsyslog.conf", ["{root}/usr/sbin/rsyslogd", "-n", "-f", "{config}", "-i", "{folder}/pid", "-M", "{root}/usr/lib/x86_64-linux-gnu/rsyslog"], ["usr/sbin/rsyslogd", "-v"]),
        STARTS,
    ),
    "rsyslog omhttp": (
        daemon("rsyslog-omhttp.conf", ["{root}/usr/sbin/rsyslogd", "-n", "-f", "{config}", "-i", "{folder}/pid", "-M", "{root}/usr/lib/x86_64-linux-gnu/rsyslog"], ["usr/sbin/rsyslogd", "-v"]),
        STARTS,
    ),
    "syslog-ng http()": (
        daemon(
            "syslog-ng.conf",
            ["{root}/usr/sbin/syslog-ng", "-F", "--cfgfile={config}", "--persist-file={folder}/state/persist", "--control={folder}/ctl",
             "--pidfile={folder}/pid", "--module-path={root}/usr/lib/syslog-ng/3.38"],
            ["usr/sbin/syslog-ng", "--version"],
        ),
        STARTS,
    ),
}


def examine(name, run, counted):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="coalface-forwarder-"))
    folder.chmod(0o755)
    server = Server(folder)
    faults = Faults(server)
    faults.start()
    try:
        said = run(server, folder)
    finally:
        faults.over.set()
        faults.join()
    if faults.error:
        raise faults.error
    stored, distinct = server.query(counted)
    refused = server.query("select count(*) from quarantine")[0]
    server.stop()
    events = said.get("events", EVENTS)
    owed = events if said.get("holds") else said["acknowledged"]
    row = {
        "client": name,
        "version": said["version"],
        "events": events,
        "acknowledged": said["acknowledged"],
        "retried": said["retries"],
        "stored": distinct,
        "lost": max(0, owed - distinct),
        "double": stored - distinct,
        "quarantined": refused,
        "dropped": 0 if said.get("holds") else max(0, events - max(distinct, owed)),
        "kills": faults.struck,
        "503": faults.refused,
    }
    row["ok"] = row["lost"] == row["double"] == refused == 0 and row["kills"] == FAULTS and row["503"]
    subprocess.run(["rm", "-rf", str(folder)] if row["ok"] else ["true"], check=True)
    return row


def main():
    wanted = sys.argv[1:] or list(CLIENTS)
    rows = []
    for name in wanted:
        run, counted = CLIENTS[name]
        print(f"{name} ..", file=sys.stderr, flush=True)
        try:
            rows.append(examine(name, run, counted))
        except Exception as error:
            rows.append({"client": name, "ok": False, "error": str(error)})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    columns = ["client", "version", "events", "acknowledged", "retried", "stored", "lost", "double", "dropped", "kills", "503", "ok"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        cells = ["-" if row.get(c) is None else str(row[c]) for c in columns]
        print("| " + " | ".join(cells) + " |" + (f" {row['error']}" if "error" in row else ""))
    sys.exit(0 if all(row["ok"] for row in rows) else 1)


if __name__ == "__main__":
    main()
