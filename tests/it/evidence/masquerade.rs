//! Class M: programs that are not what they say.

use super::tale::{MINER, MINER_PID, POOL, Program, Tale, tells_apart};
use serde_json::json;

/// A busy program with a connection to the pool; the module it loads first tells its signature.
fn program(p: Program<'_>, signer: Option<&str>) -> Tale {
    let mut tale = Tale::default();
    tale.start(0.0, p);
    let (signed, status) = if signer.is_some() { ("true", "Valid") } else { ("false", "Unavailable") };
    tale.sysmon_of(0.01, 7, p.pid, p.image, json!({"ImageLoaded": p.image, "OriginalFileName": p.original, "Company": p.company, "Product": "-",
        "Hashes": format!("SHA256={}", p.sha.repeat(16)), "Signed": signed, "Signature": signer.unwrap_or("-"), "SignatureStatus": status}));
    tale.load(p.pid, p.image, 0..90, 0.9, 600_000_000);
    tale.connects(0.2, p.pid, p.image, (POOL, 3333), 50_123);
    tale.flow(0.2, 85.0, (POOL, 3333), 50_123);
    tale
}

#[tokio::test]
async fn a_start_without_hash_is_described_by_the_module_it_loads_first() {
    let tale = |signer: Option<&str>| {
        let mut tale = Tale::default();
        tale.security(0.0, 4688, json!({"NewProcessId": format!("{MINER_PID:#x}"), "NewProcessName": MINER, "ProcessId": "0x2bc",
            "ParentProcessName": r"C:\Windows\System32\services.exe", "SubjectUserSid": "S-1-5-18", "SubjectUserName": "WS$", "SubjectLogonId": "0x3e7"}));
        let (signed, status) = if signer.is_some() { ("true", "Valid") } else { ("false", "Unavailable") };
        tale.sysmon(0.01, 7, json!({"ProcessId": MINER_PID.to_string(), "Image": MINER, "ImageLoaded": MINER, "Hashes": format!("SHA256={}", "ab12".repeat(16)),
            "Signed": signed, "Signature": signer.unwrap_or("-"), "SignatureStatus": status}));
        tale.load(MINER_PID, MINER, 0..90, 0.9, 600_000_000);
        tale.flow(0.2, 85.0, (POOL, 3333), 50_123);
        tale.security(0.2, 5156, json!({"ProcessID": MINER_PID.to_string(), "Application": MINER, "Direction": "%%14593", "SourceAddress": super::tale::ADDRESS,
            "SourcePort": "50123", "DestAddress": POOL, "DestPort": "3333", "Protocol": "6"}));
        tale
    };
    tells_apart("M.UNSIGNED_WRITABLE", tale(None), tale(Some("Tooling GmbH"))).await;
    assert_eq!(tale(None).found().await.0, "alert", "AN1489 needs no command line");
}

#[tokio::test]
async fn a_makers_name_without_its_signature_is_a_disguise() {
    let realtek = |signer| program(Program { company: "NVIDIA Corporation", ..Program::default() }, signer);
    tells_apart("M.FAKEVENDOR", realtek(None), realtek(Some("NVIDIA Corporation PE Sign v2016"))).await;
}

#[tokio::test]
async fn a_system_program_without_arguments_is_hollow_only_if_busy_and_connected() {
    let notepad = |line: &'static str| {
        program(Program { image: r"C:\Windows\System32\notepad.exe", line, parent: (44, r"C:\ProgramData\l.exe"), ..Program::default() }, Some("Microsoft Windows"))
    };
    tells_apart("M.HOLLOW", notepad(r"C:\Windows\System32\notepad.exe"), notepad(r"C:\Windows\System32\notepad.exe C:\Users\kim\todo.txt")).await;
}

#[tokio::test]
async fn a_signed_program_with_a_foreign_library_is_told_from_an_unsigned_one() {
    let loads = |signer: Option<&str>, path: &str| {
        let mut tale = program(Program::default(), signer);
        tale.sysmon_of(0.02, 7, MINER_PID, MINER, json!({"ImageLoaded": path, "Hashes": format!("SHA256={}", "cd34".repeat(16)), "Signed": "false",
            "Signature": "-", "SignatureStatus": "Unavailable"}));
        tale
    };
    tells_apart("M.SIDELOAD", loads(Some("Tooling GmbH"), r"C:\ProgramData\upd\version.dll"), loads(None, r"C:\ProgramData\upd\version.dll")).await;
    tells_apart("M.SIDELOAD", loads(Some("Tooling GmbH"), r"C:\ProgramData\upd\core.dll"), loads(Some("Tooling GmbH"), r"C:\Program Files\x\core.dll")).await;
}

#[tokio::test]
async fn one_unsigned_image_under_two_names_is_not_a_copy() {
    let second = |image: &'static str| {
        let mut tale = program(Program::default(), None);
        tale.start(50.0, Program { pid: 4_200, image, line: image, ..Program::default() });
        tale
    };
    tells_apart("M.MULTINAME", second(r"C:\ProgramData\upd\helper.exe"), second(r"C:\ProgramData\upd\upd (2).exe")).await;
}

#[tokio::test]
async fn one_unsigned_image_under_a_name_of_its_own_on_each_host_is_disguised() {
    let fleet = |second: &'static str, third: &'static str, signer| {
        let mut tale = program(Program::default(), signer);
        tale.starts_elsewhere(-30.0, "ws-2", Program { image: second, line: second, ..Program::default() });
        tale.starts_elsewhere(-20.0, "ws-3", Program { image: third, line: third, ..Program::default() });
        tale
    };
    let (second, third, copy) = (r"C:\ProgramData\a\kqzzf.exe", r"C:\ProgramData\b\wnhtr.exe", r"C:\ProgramData\b\upd (1).exe");
    tells_apart("M.MULTINAME", fleet(second, third, None), fleet(second, copy, None)).await;
    tells_apart("M.MULTINAME", fleet(second, third, None), fleet(second, third, Some("Tooling GmbH"))).await;
}

#[tokio::test]
async fn an_image_is_new_only_to_a_fleet_that_is_known() {
    let after = |days: f64| {
        let mut tale = program(Program::default(), None);
        tale.start(-1_440.0 * days, Program { pid: 50, image: r"C:\Windows\System32\spoolsv.exe", line: "spoolsv.exe", sha: "ee01", ..Program::default() });
        tale
    };
    tells_apart("M.NEWHASH", after(20.0), after(5.0)).await;
}
