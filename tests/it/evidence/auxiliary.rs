//! Class A: what happened on the host counts only where it concerns the program.

use super::tale::{MINER, MINER_PID, Program, Tale, tells_apart};
use serde_json::json;

const POWERSHELL: &str = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe";

/// The plain miner and something more.
fn and(more: impl Fn(&mut Tale)) -> Tale {
    let mut tale = Tale::miner();
    more(&mut tale);
    tale
}

#[tokio::test]
async fn an_alert_counts_for_the_image_that_it_names() {
    let alert = |threat: &'static str, path: &'static str| {
        and(move |tale| {
            tale.defender(20.0, 1116, json!({"Threat Name": threat, "Path": format!("file:_{path}"), "Severity Name": "High", "Process Name": "Unknown"}));
        })
    };
    tells_apart("A.AVMINER", alert("Trojan:Win64/CoinMiner.XM", MINER), alert("Trojan:Win64/CoinMiner.XM", r"C:\Users\kim\other.exe")).await;
    tells_apart("A.AVALERT", alert("Trojan:Win32/Wacatac.B!ml", MINER), alert("Trojan:Win64/CoinMiner.XM", MINER)).await;
}

#[tokio::test]
async fn an_exclusion_counts_if_it_covers_the_image() {
    let excluded = |path: &'static str, days_before: f64| {
        and(move |tale| {
            let key = format!(r"HKLM\SOFTWARE\Microsoft\Windows Defender\Exclusions\Paths\{path}");
            tale.defender(-1_440.0 * days_before, 5007, json!({"New Value": format!("{key} = 0x0")}));
        })
    };
    tells_apart("A.DEFEXCL", excluded(r"C:\ProgramData", 30.0), excluded(r"C:\Build", 1.0)).await;
    tells_apart("A.DEFEXCL", excluded(r"C:\ProgramData\upd", 1.0), excluded(r"C:\ProgramData\upd", 50.0)).await;
    let command = |line: &'static str| {
        and(move |tale| tale.start(-5.0, Program { pid: 77, image: POWERSHELL, line, parent: (60, r"C:\Windows\explorer.exe"), ..Program::default() }))
    };
    tells_apart(
        "A.DEFEXCL",
        command(r"powershell.exe Add-MpPreference -ExclusionPath 'C:\Tools','C:\ProgramData\upd'"),
        command(r"powershell.exe Remove-MpPreference -ExclusionPath 'C:\ProgramData\upd'"),
    )
    .await;
}

#[tokio::test]
async fn protection_counts_if_it_stops_around_the_first_start() {
    let off = |minute: f64| and(move |tale| tale.defender(minute, 5001, json!({})));
    tells_apart("A.DEFOFF", off(-40.0), off(-200.0)).await;
    let cleared = |line: &'static str| and(move |tale| tale.start(10.0, Program { pid: 78, image: r"C:\Windows\System32\wevtutil.exe", line, ..Program::default() }));
    tells_apart("A.DEFOFF", cleared("wevtutil cl Security"), cleared("wevtutil qe Security /c:3")).await;
}

#[tokio::test]
async fn drivers_privileges_and_firewall_rules_count_near_the_program() {
    let driver = |minute: f64, path: &'static str| {
        and(move |tale| tale.sysmon(minute, 6, json!({"ImageLoaded": path, "Hashes": "SHA256=00", "Signed": "true", "Signature": "Noriyuki", "SignatureStatus": "Valid"})))
    };
    tells_apart("A.WINRING0", driver(0.1, r"C:\ProgramData\upd\WinRing0x64.sys"), driver(-120.0, r"C:\Tools\WinRing0x64.sys")).await;
    let privilege = |name: &'static str| {
        and(move |tale| {
            tale.security(0.1, 4703, json!({"ProcessId": format!("{MINER_PID:#x}"), "ProcessName": MINER, "EnabledPrivilegeList": name, "TargetUserName": "SYSTEM"}));
        })
    };
    tells_apart("A.LOCKMEM", privilege("SeLockMemoryPrivilege"), privilege("SeBackupPrivilege")).await;
    let rule = |program: &'static str| {
        and(move |tale| {
            let name = "Microsoft-Windows-Windows Firewall With Advanced Security";
            tale.event(-3.0, name, &format!("{name}/Firewall"), 2004, json!({"RuleName": "helper", "ApplicationPath": program, "ModifyingApplication": r"C:\Windows\System32\netsh.exe"}));
        })
    };
    tells_apart("A.FW", rule(MINER), rule(r"C:\Program Files\Chat\chat.exe")).await;
}

#[tokio::test]
async fn a_program_that_ends_others_in_a_row_is_told_from_one_that_ends_one() {
    let kills = |count: u8, line: &'static str| {
        and(move |tale| {
            for n in 0..count {
                let (pid, minute) = (90 + i64::from(n), 2.0 + f64::from(n));
                tale.start(minute, Program { pid, image: r"C:\Windows\System32\taskkill.exe", line, parent: (MINER_PID, MINER), ..Program::default() });
            }
        })
    };
    tells_apart("A.KILL", kills(3, "taskkill /F /IM rival.exe"), kills(2, "taskkill /F /IM rival.exe")).await;
    tells_apart("A.KILL", kills(1, "taskkill /F /IM MsMpEng.exe"), kills(3, "tasklist /V")).await;
}

#[tokio::test]
async fn silence_about_processes_counts_where_it_is_unusual() {
    let pace = |until: i32| {
        let mut tale = Tale::default();
        tale.start(600.0, Program { line: r"C:\ProgramData\upd\upd.exe -o stratum+tcp://203.0.113.9:3333 -u kim", ..Program::default() });
        tale.load(MINER_PID, MINER, 600..690, 0.9, 600_000_000);
        for n in 0..until {
            let (pid, minute) = (8_000 + i64::from(n), f64::from(n) * 3.0 + 0.5);
            tale.start(minute, Program { pid, image: r"C:\Windows\System32\conhost.exe", line: "conhost.exe 0x4", sha: "ee03", ..Program::default() });
        }
        tale
    };
    // The miner's own start is the last thing said, or life goes on.
    tells_apart("A.DARK", pace(200), pace(232)).await;
}

#[tokio::test]
async fn memory_as_randomx_takes_it_counts_if_it_stays() {
    let memory = |bytes: [u64; 2]| {
        let mut tale = Tale::default();
        tale.start(0.0, Program { line: r"C:\ProgramData\upd\upd.exe -o stratum+tcp://203.0.113.9:3333 -u kim", ..Program::default() });
        tale.load(MINER_PID, MINER, 0..40, 0.9, bytes[0]);
        tale.load(MINER_PID, MINER, 40..90, 0.9, bytes[1]);
        tale
    };
    tells_apart("A.RXMEM", memory([2_430_000_000, 2_430_000_000]), memory([2_430_000_000, 3_000_000_000])).await;
    let (_, codes) = memory([600_000_000, 600_000_000]).found().await;
    assert!(!codes.contains("A.RXMEM"), "{codes:?}");
}

#[tokio::test]
async fn hiding_from_the_task_manager_twice_is_a_pattern_and_once_is_not() {
    let hides = |times: u8| {
        let mut tale = Tale::default();
        let line = r"C:\ProgramData\upd\upd.exe -o stratum+tcp://203.0.113.9:3333 -u kim";
        for n in 0..3u8 {
            let (pid, begin) = (5_000 + i64::from(n), i32::from(n) * 60);
            tale.start(f64::from(begin), Program { pid, line, ..Program::default() });
            tale.load(pid, MINER, begin..begin + 50, 0.9, 600_000_000);
            tale.stop(f64::from(begin) + 50.0, pid, MINER);
            if n < times {
                let (watcher, at) = (300 + i64::from(n), f64::from(begin) + 49.8);
                let image = r"C:\Windows\System32\Taskmgr.exe";
                tale.start(at, Program { pid: watcher, image, line: "taskmgr.exe", parent: (60, r"C:\Windows\explorer.exe"), ..Program::default() });
                tale.stop(at + 6.0, watcher, image);
            }
        }
        tale.connects(0.2, 5_000, MINER, (super::tale::POOL, 3333), 50_123);
        tale
    };
    tells_apart("A.PAUSE", hides(2), hides(1)).await;
}
