//! The tables of the demo: machines, programs with their version data, what runs on which kind of machine, and where it talks to.
//!
//! All machines, people and names are invented; addresses are those of RFC 5737 and RFC 1918.

/// What a machine is for; decides what runs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Desk,
    Laptop,
    Developer,
    Server,
    Database,
    Web,
    Directory,
    Build,
}
use Kind::{Build, Database, Desk, Developer, Directory, Laptop, Server, Web};

const ALL: &[Kind] = &[Desk, Laptop, Developer, Server, Database, Web, Directory, Build];
const CLIENTS: &[Kind] = &[Desk, Laptop, Developer];
const SERVERS: &[Kind] = &[Server, Database, Web, Directory, Build];

impl Kind {
    /// Class of the host as people would enter it.
    pub(super) fn class(self) -> &'static str {
        match self {
            Desk => "workstation",
            Laptop => "laptop",
            Developer => "developer",
            Server => "server",
            Database => "database",
            Web => "web",
            Directory => "domain_controller",
            Build => "build",
        }
    }

    /// Whether a person sits at it.
    pub(super) fn interactive(self) -> bool {
        CLIENTS.contains(&self)
    }
}

/// One host of the demo.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) ip: &'static str,
    pub(super) cores: u32,
    /// Who works on it; empty on servers.
    pub(super) user: &'static str,
    pub(super) tier: u8,
    pub(super) role: &'static str,
    pub(super) tags: &'static [&'static str],
    /// Whether Metricbeat runs there.
    pub(super) cpu: bool,
    /// Whether Sysmon's configuration keeps command lines.
    pub(super) arguments: bool,
    /// When it was up, in hours relative to now.
    pub(super) up: &'static [(f64, f64)],
}

const OFFICE_DAY: &[(f64, f64)] = &[(-9.6, 0.0)];
const ALWAYS: &[(f64, f64)] = &[(-24.0, 0.0)];

const fn client(name: &'static str, kind: Kind, ip: &'static str, cores: u32, user: &'static str) -> Machine {
    Machine { name, kind, ip, cores, user, tier: 3, role: "", tags: &[], cpu: true, arguments: true, up: OFFICE_DAY }
}

const fn server(name: &'static str, kind: Kind, ip: &'static str, cores: u32, tier: u8, role: &'static str) -> Machine {
    Machine { name, kind, ip, cores, user: "", tier, role, tags: &[], cpu: true, arguments: true, up: ALWAYS }
}

/// The fleet. `lt-203` has no CPU telemetry, `ws-107` no command lines.
pub(super) static MACHINES: &[Machine] = &[
    client("ws-101", Desk, "10.20.1.11", 8, "a.marsh"),
    client("ws-102", Desk, "10.20.1.12", 8, "b.okafor"),
    client("ws-103", Desk, "10.20.1.13", 8, "c.lindqvist"),
    client("ws-104", Desk, "10.20.1.14", 8, "d.petrov"),
    client("ws-105", Desk, "10.20.1.15", 4, "e.sandoval"),
    client("ws-106", Desk, "10.20.1.16", 8, "f.haddad"),
    Machine { arguments: false, ..client("ws-107", Desk, "10.20.1.17", 8, "g.yilmaz") },
    client("lt-201", Laptop, "10.20.2.21", 8, "h.kowalski"),
    client("lt-202", Laptop, "10.20.2.22", 8, "i.nakamura"),
    Machine { cpu: false, up: &[(-24.0, -16.0), (-9.5, 0.0)], ..client("lt-203", Laptop, "10.20.2.23", 12, "j.moreau") },
    client("lt-204", Laptop, "10.20.2.24", 12, "k.abebe"),
    client("dev-301", Developer, "10.20.3.31", 16, "l.virtanen"),
    client("dev-302", Developer, "10.20.3.32", 16, "m.castellano"),
    server("srv-file-01", Server, "10.20.10.41", 8, 2, "file server"),
    Machine { up: &[(-24.0, -14.1), (-14.0, 0.0)], ..server("srv-app-01", Server, "10.20.10.42", 8, 2, "application server") },
    Machine { tags: &["infrastructure"], ..server("srv-bkp-01", Server, "10.20.10.43", 8, 2, "backup repository") },
    server("sql-01", Database, "10.20.10.44", 16, 2, "order database"),
    server("web-01", Web, "10.20.20.51", 8, 2, "customer portal"),
    server("web-02", Web, "10.20.20.52", 8, 2, "customer portal"),
    Machine { tags: &["resolver", "infrastructure"], ..server("dc-01", Directory, "10.20.0.4", 4, 1, "domain controller") },
    Machine { tags: &["ci"], ..server("build-01", Build, "10.20.10.45", 16, 2, "build agent") },
];

/// A program file: where it lies, its version resource and who signed it.
#[derive(Debug)]
pub(super) struct Program {
    /// `%user%` stands for the machine's user.
    pub(super) path: &'static str,
    pub(super) original: &'static str,
    pub(super) description: &'static str,
    pub(super) product: &'static str,
    pub(super) company: &'static str,
    pub(super) version: &'static str,
    /// Empty: not signed.
    pub(super) signer: &'static str,
}

const fn windows(path: &'static str, original: &'static str, description: &'static str) -> Program {
    let product = "Microsoft® Windows® Operating System";
    Program { path, original, description, product, company: "Microsoft Corporation", version: "10.0.22621.3958", signer: "Microsoft Windows" }
}

const fn signed(path: &'static str, original: &'static str, product: &'static str, company: &'static str, version: &'static str) -> Program {
    Program { path, original, description: product, product, company, version, signer: company }
}

const fn unsigned(path: &'static str, original: &'static str, product: &'static str, company: &'static str, version: &'static str) -> Program {
    Program { path, original, description: product, product, company, version, signer: "" }
}

macro_rules! programs {
    ($($name:ident = $make:ident($($argument:expr),* $(,)?);)*) => { $( pub(super) static $name: Program = $make($($argument),*); )* };
}

const MS: &str = "Microsoft Corporation";

programs! {
    SYSTEM_PROCESS = windows("System", "-", "-");
    SMSS = windows(r"C:\Windows\System32\smss.exe", "smss.exe", "Windows Session Manager");
    CSRSS = windows(r"C:\Windows\System32\csrss.exe", "CSRSS.Exe", "Client Server Runtime Process");
    WININIT = windows(r"C:\Windows\System32\wininit.exe", "WinInit.exe", "Windows Start-Up Application");
    WINLOGON = windows(r"C:\Windows\System32\winlogon.exe", "WINLOGON.EXE", "Windows Logon Application");
    SERVICES = windows(r"C:\Windows\System32\services.exe", "services.exe", "Services and Controller app");
    LSASS = windows(r"C:\Windows\System32\lsass.exe", "lsass.exe", "Local Security Authority Process");
    SVCHOST = windows(r"C:\Windows\System32\svchost.exe", "svchost.exe", "Host Process for Windows Services");
    DWM = windows(r"C:\Windows\System32\dwm.exe", "dwm.exe", "Desktop Window Manager");
    USERINIT = windows(r"C:\Windows\System32\userinit.exe", "USERINIT.EXE", "Userinit Logon Application");
    EXPLORER = windows(r"C:\Windows\explorer.exe", "EXPLORER.EXE", "Windows Explorer");
    INDEXER = windows(r"C:\Windows\System32\SearchIndexer.exe", "SearchIndexer.exe", "Microsoft Windows Search Indexer");
    PROTOCOL_HOST = windows(r"C:\Windows\System32\SearchProtocolHost.exe", "SearchProtocolHost.exe", "Microsoft Windows Search Protocol Host");
    BROKER = windows(r"C:\Windows\System32\RuntimeBroker.exe", "RuntimeBroker.exe", "Runtime Broker");
    TASKHOST = windows(r"C:\Windows\System32\taskhostw.exe", "taskhostw.exe", "Host Process for Windows Tasks");
    DLLHOST = windows(r"C:\Windows\System32\dllhost.exe", "dllhost.exe", "COM Surrogate");
    USOCLIENT = windows(r"C:\Windows\System32\UsoClient.exe", "UsoClient.exe", "UsoClient");
    CMD = windows(r"C:\Windows\System32\cmd.exe", "Cmd.Exe", "Windows Command Processor");
    CONHOST = windows(r"C:\Windows\System32\conhost.exe", "CONHOST.EXE", "Console Window Host");
    SCHTASKS = windows(r"C:\Windows\System32\schtasks.exe", "schtasks.exe", "Task Scheduler Configuration Tool");
    POWERSHELL = windows(r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe", "PowerShell.EXE", "Windows PowerShell");
    WMIPRVSE = windows(r"C:\Windows\System32\wbem\WmiPrvSE.exe", "Wmiprvse.exe", "WMI Provider Host");
    SCRCONS = windows(r"C:\Windows\System32\wbem\scrcons.exe", "scrcons.exe", "WMI Standard Event Consumer - scripting");
    W3WP = windows(r"C:\Windows\System32\inetsrv\w3wp.exe", "w3wp.exe", "IIS Worker Process");
    DNS_SERVER = windows(r"C:\Windows\System32\dns.exe", "dns.exe", "Domain Name System (DNS) Server");
    INSTALLER = windows(r"C:\Windows\servicing\TrustedInstaller.exe", "TrustedInstaller.exe", "Windows Modules Installer");
    TIWORKER = windows(r"C:\Windows\WinSxS\amd64_microsoft-windows-servicingstack_31bf3856ad364e35_10.0.22621.3951_none_e9a2c6d1f0b7a4c5\TiWorker.exe",
        "TiWorker.exe", "Windows Modules Installer Worker");
    DEFENDER = windows(r"C:\ProgramData\Microsoft\Windows Defender\Platform\4.18.24070.5-0\MsMpEng.exe", "MsMpEng.exe", "Antimalware Service Executable");
    SYSMON = signed(r"C:\Windows\Sysmon64.exe", "Sysmon.exe", "Sysinternals Sysmon", MS, "15.15");
    CCMEXEC = signed(r"C:\Windows\CCM\CcmExec.exe", "CcmExec.exe", "Microsoft Configuration Manager", MS, "5.00.9128.1000");
    WINLOGBEAT = signed(r"C:\Program Files\Winlogbeat\winlogbeat.exe", "winlogbeat.exe", "Winlogbeat", "Elasticsearch, Inc.", "8.17.0");
    METRICBEAT = signed(r"C:\Program Files\Metricbeat\metricbeat.exe", "metricbeat.exe", "Metricbeat", "Elasticsearch, Inc.", "8.17.0");
    CHROME = signed(r"C:\Program Files\Google\Chrome\Application\chrome.exe", "chrome.exe", "Google Chrome", "Google LLC", "128.0.6613.120");
    UPDATER = signed(r"C:\Program Files (x86)\Google\Update\GoogleUpdate.exe", "GoogleUpdate.exe", "Google Update", "Google LLC", "1.3.36.372");
    OUTLOOK = signed(r"C:\Program Files\Microsoft Office\root\Office16\OUTLOOK.EXE", "Outlook.exe", "Microsoft Outlook", MS, "16.0.17928.20114");
    WORD = signed(r"C:\Program Files\Microsoft Office\root\Office16\WINWORD.EXE", "WinWord.exe", "Microsoft Office", MS, "16.0.17928.20114");
    EXCEL = signed(r"C:\Program Files\Microsoft Office\root\Office16\EXCEL.EXE", "Excel.exe", "Microsoft Office", MS, "16.0.17928.20114");
    TEAMS = signed(r"C:\Program Files\WindowsApps\MSTeams_24215.1007.3082.1590_x64__8wekyb3d8bbwe\ms-teams.exe", "ms-teams.exe", "Microsoft Teams", MS, "24215.1007.3082.1590");
    CODE = signed(r"C:\Program Files\Microsoft VS Code\Code.exe", "electron.exe", "Visual Studio Code", MS, "1.92.2");
    GIT = signed(r"C:\Program Files\Git\cmd\git.exe", "git.exe", "Git", "Johannes Schindelin", "2.46.0.1");
    MSBUILD = signed(r"C:\Program Files\Microsoft Visual Studio\2022\Professional\MSBuild\Current\Bin\amd64\MSBuild.exe", "MSBuild.exe", "Microsoft® Build Tools®", MS, "17.11.2");
    COMPILER = signed(r"C:\Program Files\Microsoft Visual Studio\2022\Professional\VC\Tools\MSVC\14.41.34120\bin\Hostx64\x64\cl.exe", "CL.exe", "Microsoft® Visual Studio®", MS, "14.41.34120.0");
    SQLSERVR = signed(r"C:\Program Files\Microsoft SQL Server\MSSQL16.MSSQLSERVER\MSSQL\Binn\sqlservr.exe", "SQLSERVR.EXE", "Microsoft SQL Server", MS, "2022.0160.4135.04");
    BACKUP = signed(r"C:\Program Files\Harbour Backup\HarbourAgent.exe", "HarbourAgent.exe", "Harbour Backup Agent", "Harbour Data Protection Ltd", "7.2.1.88");
    RUNNER = signed(r"C:\agent\bin\Agent.Worker.exe", "Agent.Worker.dll", "Build Agent", "Pipeline Works GmbH", "3.244.1");
    PERFSUITE = unsigned(r"C:\agent\_work\7\s\bin\perfsuite.exe", "perfsuite.exe", "-", "-", "-");
    ROLLUP = unsigned(r"C:\Apps\Rollup\rollup.exe", "rollup.exe", "Monthly Rollup", "-", "2.3.0.0");
    XMRIG = unsigned(r"C:\Users\%user%\Downloads\xmrig-6.22.0\xmrig.exe", "xmrig.exe", "XMRig", "www.xmrig.com", "6.22.0");
    FALSE_SVCHOST = unsigned(r"C:\ProgramData\Microsoft\WinSvc\svchost.exe", "xmrig.exe", "XMRig", "www.xmrig.com", "6.21.3");
    TEMP_MINER = unsigned(r"C:\Windows\Temp\wmiupd.exe", "-", "-", "-", "-");
}

pub(super) const SYSTEM: &str = r"NT AUTHORITY\SYSTEM";
pub(super) const NETWORK: &str = r"NT AUTHORITY\NETWORK SERVICE";
pub(super) const LOCAL: &str = r"NT AUTHORITY\LOCAL SERVICE";
pub(super) const USER: &str = r"CORP\%user%";
pub(super) const WEB_POOL: &str = r"IIS APPPOOL\portal";
const SQL_SERVICE: &str = r"NT SERVICE\MSSQLSERVER";
pub(super) const BUILD_USER: &str = r"CORP\svc-build";

/// A process that starts with the machine (or the session) and stays.
#[derive(Debug)]
pub(super) struct Resident {
    /// Name that other rows use.
    pub(super) key: &'static str,
    pub(super) parent: &'static str,
    pub(super) program: &'static Program,
    /// After the image; `%user%` and `%n%` are filled in.
    pub(super) arguments: &'static str,
    pub(super) account: &'static str,
    /// Mean percent of the host.
    pub(super) load: f64,
    pub(super) on: &'static [Kind],
}

macro_rules! residents {
    ($($on:ident: $key:literal < $parent:literal, $program:ident, $arguments:literal, $account:ident, $load:literal;)*) => {
        &[$( Resident { key: $key, parent: $parent, program: &$program, arguments: $arguments, account: $account, load: $load, on: $on } ),*]
    };
}

const WEBS: &[Kind] = &[Web];
const DATABASES: &[Kind] = &[Database];
const DEVELOPERS: &[Kind] = &[Developer];
const DIRECTORIES: &[Kind] = &[Directory];
const BUILDS: &[Kind] = &[Build];

/// In the order of their start.
pub(super) static RESIDENTS: &[Resident] = residents! {
    ALL: "smss" < "system", SMSS, "", SYSTEM, 0.0;
    ALL: "csrss" < "smss", CSRSS, r"ObjectDirectory=\Windows SharedSection=1024,20480,768 Windows=On", SYSTEM, 0.1;
    ALL: "wininit" < "smss", WININIT, "", SYSTEM, 0.0;
    ALL: "winlogon" < "smss", WINLOGON, "", SYSTEM, 0.0;
    ALL: "services" < "wininit", SERVICES, "", SYSTEM, 0.1;
    ALL: "lsass" < "wininit", LSASS, "", SYSTEM, 0.2;
    ALL: "dcom" < "services", SVCHOST, "-k DcomLaunch -p", SYSTEM, 0.2;
    ALL: "rpc" < "services", SVCHOST, "-k RPCSS -p", NETWORK, 0.1;
    ALL: "schedule" < "services", SVCHOST, "-k netsvcs -p -s Schedule", SYSTEM, 0.1;
    ALL: "winmgmt" < "services", SVCHOST, "-k netsvcs -p -s Winmgmt", SYSTEM, 0.2;
    ALL: "dnscache" < "services", SVCHOST, "-k NetworkService -p -s Dnscache", NETWORK, 0.1;
    ALL: "eventlog" < "services", SVCHOST, "-k LocalServiceNetworkRestricted -p -s EventLog", LOCAL, 0.2;
    ALL: "update" < "services", SVCHOST, "-k netsvcs -p -s wuauserv", SYSTEM, 0.2;
    ALL: "diagtrack" < "services", SVCHOST, "-k utcsvc -p", SYSTEM, 0.2;
    ALL: "sysmain" < "services", SVCHOST, "-k LocalSystemNetworkRestricted -p -s SysMain", SYSTEM, 0.2;
    ALL: "wmiprvse" < "dcom", WMIPRVSE, "-secured -Embedding", NETWORK, 0.4;
    ALL: "defender" < "services", DEFENDER, "", SYSTEM, 1.2;
    ALL: "sysmon" < "services", SYSMON, "", SYSTEM, 0.5;
    ALL: "winlogbeat" < "services", WINLOGBEAT, r#"--environment=windows_service -c "C:\Program Files\Winlogbeat\winlogbeat.yml""#, SYSTEM, 0.3;
    ALL: "metricbeat" < "services", METRICBEAT, r#"--environment=windows_service -c "C:\Program Files\Metricbeat\metricbeat.yml""#, SYSTEM, 0.3;
    CLIENTS: "ccmexec" < "services", CCMEXEC, "", SYSTEM, 0.4;
    CLIENTS: "indexer" < "services", INDEXER, "/Embedding", SYSTEM, 0.6;
    CLIENTS: "dwm" < "winlogon", DWM, "", SYSTEM, 1.0;
    CLIENTS: "userinit" < "winlogon", USERINIT, "", USER, 0.0;
    CLIENTS: "explorer" < "userinit", EXPLORER, "", USER, 0.6;
    CLIENTS: "browser" < "explorer", CHROME, "", USER, 4.0;
    CLIENTS: "outlook" < "explorer", OUTLOOK, "", USER, 1.0;
    CLIENTS: "teams" < "explorer", TEAMS, "--autostart", USER, 1.8;
    DEVELOPERS: "code" < "explorer", CODE, r#""C:\src\portal""#, USER, 2.5;
    DIRECTORIES: "dns" < "services", DNS_SERVER, "", SYSTEM, 1.1;
    DATABASES: "sql" < "services", SQLSERVR, "-sMSSQLSERVER", SQL_SERVICE, 9.0;
    WEBS: "was" < "services", SVCHOST, "-k iissvcs", SYSTEM, 0.1;
    WEBS: "w3wp" < "was", W3WP, r#"-ap "portal" -v "v4.0" -l "webengine4.dll" -h "C:\inetpub\temp\apppools\portal\portal.config" -w "" -m 0"#, WEB_POOL, 6.0;
    BUILDS: "runner" < "services", RUNNER, "spawnclient 1184 1192", BUILD_USER, 0.4;
};

/// A process that comes and goes.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) parent: &'static str,
    pub(super) program: &'static Program,
    pub(super) arguments: &'static str,
    pub(super) account: &'static str,
    /// Shortest and longest life.
    pub(super) seconds: (i64, i64),
    /// Mean percent of the host while it lives.
    pub(super) load: f64,
    pub(super) per_hour: f64,
    pub(super) on: &'static [Kind],
    /// Scheduled task that starts it; empty: none.
    pub(super) task: &'static str,
    /// Script block it logs; empty: none.
    pub(super) script: &'static str,
}

macro_rules! errands {
    ($($on:ident $rate:literal/h: $parent:literal > $program:ident, $arguments:literal, $account:ident, $least:literal..$most:literal s, $load:literal
        $(, task $task:literal)? $(, script $script:literal)?;)*) => {
        &[$( Errand {
            parent: $parent, program: &$program, arguments: $arguments, account: $account, seconds: ($least, $most), load: $load, per_hour: $rate,
            on: $on, task: concat!($($task)?), script: concat!($($script)?),
        } ),*]
    };
}

pub(super) static ERRANDS: &[Errand] = errands! {
    ALL 2.0/h: "dcom" > DLLHOST, "/Processid:{AB8902B4-09CA-4BB6-B78D-A8F59079A8D5}", SYSTEM, 5..20 s, 0.2;
    ALL 1.5/h: "schedule" > TASKHOST, "", SYSTEM, 10..90 s, 0.4, task r"\Microsoft\Windows\SoftwareProtectionPlatform\SvcRestartTask";
    ALL 0.4/h: "schedule" > USOCLIENT, "StartScan", SYSTEM, 2..9 s, 0.3, task r"\Microsoft\Windows\UpdateOrchestrator\Schedule Scan";
    ALL 0.3/h: "schedule" > POWERSHELL, r"-NoProfile -ExecutionPolicy RemoteSigned -File C:\ProgramData\Corp\Inventory.ps1", SYSTEM, 6..40 s, 1.5, task r"\Corp\Inventory",
        script r"function Get-Inventory { Get-CimInstance Win32_Product | Select-Object Name, Version }";
    CLIENTS 0.25/h: "ccmexec" > POWERSHELL, "%ccm%", SYSTEM, 8..50 s, 2.0, script "Get-CimInstance -Namespace root/ccm/ClientSDK -ClassName CCM_SoftwareUpdate";
    CLIENTS 14.0/h: "browser" > CHROME, "--type=renderer --lang=en-US --num-raster-threads=4 --renderer-client-id=%n%", USER, 40..2400 s, 0.8;
    CLIENTS 4.0/h: "dcom" > BROKER, "-Embedding", USER, 60..1200 s, 0.1;
    CLIENTS 3.0/h: "indexer" > PROTOCOL_HOST, r"Global\UsGthrFltPipeMssGthrPipe%n%_ Global\UsGthrCtrlFltPipeMssGthrPipe%n% 1 -2147483646", SYSTEM, 40..180 s, 1.2;
    CLIENTS 0.5/h: "schedule" > UPDATER, "/ua /installsource scheduler", SYSTEM, 5..40 s, 0.6, task r"\GoogleUpdateTaskMachineUA";
    CLIENTS 0.6/h: "explorer" > WORD, r#"/n "C:\Users\%user%\Documents\minutes-%n%.docx""#, USER, 300..2700 s, 1.0;
    CLIENTS 0.6/h: "explorer" > EXCEL, r#""C:\Users\%user%\Documents\forecast-%n%.xlsx""#, USER, 300..2700 s, 1.6;
    DEVELOPERS 20.0/h: "code" > GIT, "status -z -uall", USER, 1..3 s, 1.0;
    SERVERS 0.5/h: "services" > SVCHOST, "-k swprv", SYSTEM, 60..300 s, 0.3;
};

/// A destination.
#[derive(Debug)]
pub(super) struct Site {
    /// Empty: addressed by number.
    pub(super) name: &'static str,
    pub(super) ip: &'static str,
    pub(super) port: u16,
    pub(super) udp: bool,
    /// Bytes per second, sent and received.
    pub(super) rate: (f64, f64),
}

const fn https(name: &'static str, ip: &'static str, out: f64, inward: f64) -> Site {
    Site { name, ip, port: 443, udp: false, rate: (out, inward) }
}

const fn tcp(name: &'static str, ip: &'static str, port: u16, out: f64, inward: f64) -> Site {
    Site { name, ip, port, udp: false, rate: (out, inward) }
}

pub(super) static POOL_ONE: Site = tcp("xmr.pool-one.example", "203.0.113.41", 3333, 14.0, 22.0);
pub(super) static POOL_TWO: Site = tcp("xmr-eu.pool-two.example", "203.0.113.42", 14433, 19.0, 26.0);
pub(super) static QUIET_POOL: Site = tcp("gw.quiet-harbour.example", "198.51.100.23", 3333, 12.0, 20.0);
pub(super) static RELAY: Site = https("assets.node-relay.example", "198.51.100.77", 16.0, 24.0);
pub(super) static DROPPER: Site = https("files.paste-box.example", "198.51.100.78", 300.0, 90_000.0);
pub(super) static DOWNLOADS: Site = https("downloads.code-forge.example", "198.51.100.90", 900.0, 400_000.0);
pub(super) static ARTIFACTS: Site = https("artifacts.pipeline-works.example", "198.51.100.91", 900.0, 1_200.0);
pub(super) static MEDIA: Site = Site { name: "relay.meetings.example", ip: "192.0.2.40", port: 3478, udp: true, rate: (160_000.0, 220_000.0) };
pub(super) static UPDATES: Site = https("download.os-updates.example", "192.0.2.11", 700.0, 900_000.0);
pub(super) static REPOSITORY: Site = tcp("srv-bkp-01.corp.example", "10.20.10.43", 10_006, 9_000_000.0, 40_000.0);
pub(super) static ORDERS: Site = tcp("sql-01.corp.example", "10.20.10.44", 1433, 900.0, 60_000.0);

/// Where an ordinary process talks to, how often and for how many seconds.
pub(super) type Habit = (&'static str, Site, f64, (i64, i64));

/// Every machine that runs the process has the habit: this is what makes a destination common.
pub(super) static HABITS: &[Habit] = &[
    ("diagtrack", https("events.os-telemetry.example", "192.0.2.10", 600.0, 200.0), 2.0, (2, 60)),
    ("update", https("download.os-updates.example", "192.0.2.11", 300.0, 9_000.0), 1.0, (3, 60)),
    ("defender", https("cloud.antimalware.example", "192.0.2.12", 500.0, 400.0), 2.0, (2, 40)),
    ("winlogbeat", tcp("logs.corp.example", "10.20.0.30", 8088, 2_000.0, 90.0), 0.5, (60, 600)),
    ("browser", https("www.search.example", "192.0.2.20", 500.0, 9_000.0), 10.0, (5, 240)),
    ("browser", https("cdn.news.example", "192.0.2.21", 400.0, 30_000.0), 8.0, (5, 120)),
    ("browser", https("intranet.cloud-office.example", "192.0.2.22", 900.0, 20_000.0), 5.0, (10, 300)),
    ("outlook", https("mail.cloud-office.example", "192.0.2.23", 80.0, 300.0), 1.5, (900, 5_400)),
    ("teams", https("chat.meetings.example", "192.0.2.24", 60.0, 90.0), 0.8, (1_800, 7_200)),
    ("teams", Site { name: "relay.meetings.example", ip: "192.0.2.40", port: 3478, udp: true, rate: (900.0, 900.0) }, 0.3, (5, 30)),
    ("ccmexec", tcp("mgmt.corp.example", "10.20.0.31", 443, 700.0, 5_000.0), 1.0, (5, 60)),
    ("code", https("git.code-forge.example", "192.0.2.30", 400.0, 2_000.0), 3.0, (2, 30)),
    ("runner", https("git.code-forge.example", "192.0.2.30", 400.0, 9_000.0), 3.0, (2, 60)),
    ("w3wp", tcp("sql-01.corp.example", "10.20.10.44", 1433, 900.0, 6_000.0), 2.0, (60, 900)),
];
