//! What only the database can put together of decoded records: script blocks in parts, shares of processors.

use crate::harness::TestApp;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::{Value, json};

const PROVIDER: &str = "Microsoft-Windows-PowerShell";

fn windows(record: u64, provider: &str, channel: &str, id: u32, data: &Value) -> Value {
    json!({"@timestamp": format!("2026-03-02T04:00:{:02}.000Z", record % 60), "winlog": {"computer_name": "WS-0412.corp.example", "channel": channel,
        "provider_name": provider, "event_id": id, "record_id": record, "process": {"pid": 4120}, "event_data": data}})
}

fn shell() -> Value {
    windows(
        1,
        "Microsoft-Windows-Security-Auditing",
        "Security",
        4688,
        &json!({"NewProcessId": "0x1018", "NewProcessName":
        r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe", "CommandLine": "powershell.exe -file run.ps1", "ProcessId": "0x500"}),
    )
}

fn part(number: u64, of: u64, text: &str) -> Value {
    windows(
        10 + number,
        PROVIDER,
        "Microsoft-Windows-PowerShell/Operational",
        4104,
        &json!({"MessageNumber": number.to_string(),
        "MessageTotal": of.to_string(), "ScriptBlockText": text, "ScriptBlockId": "5a8d6c1e-0001-4a7e-9a55-aaaaaaaaaaaa", "Path": ""}),
    )
}

/// Case 53: parts 3, 1, 2, 2 over two requests are one text.
#[tokio::test]
async fn a_script_block_in_parts_is_judged_as_one_text() {
    const SEEN: &str = "select count(*) from evidence where code = 'C.SBLOCK' and cardinality(events) = 3";
    let parts = [part(1, 3, "$init = 'ran"), part(2, 3, "dom"), part(3, 3, "x'; start-miner")];
    for seed in 0..3 {
        let app = TestApp::new().await;
        let mut rest = parts.to_vec();
        rest.push(parts[1].clone());
        rest.shuffle(&mut StdRng::seed_from_u64(seed));
        app.send(&[shell(), rest[0].clone(), rest[1].clone()]).await;
        app.settle().await;
        assert_eq!(app.count(SEEN).await, 0, "not all parts are there");
        app.send(&rest[2..]).await;
        app.settle().await;
        assert_eq!(app.count(SEEN).await, 1, "seed {seed}");
    }
    let app = TestApp::new().await;
    app.send(&[shell(), part(1, 2, "# randomx"), part(2, 2, "nothing")]).await;
    app.settle().await;
    assert_eq!(
        app.count("select count(*) from evidence where code = 'C.SBLOCK'").await,
        1,
        "a part that says it alone says it once"
    );
}

/// Case 64: percentages of one processor are divided by the host's number of them.
#[tokio::test]
async fn shares_of_processors_become_shares_of_the_host() {
    let app = TestApp::new().await;
    let metric = |name: &str, more: Value, fields: Value, minute: i64| {
        let mut tags = json!({"host": "WS-0412.corp.example"});
        tags.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"name": name, "tags": tags, "fields": fields, "timestamp": 1_772_424_000 + minute * 60})
    };
    let mut events = vec![shell(), metric("system", json!({}), json!({"n_cpus": 4, "uptime": 90_000}), 0)];
    events.extend((0..12).map(|minute| {
        metric(
            "win_proc",
            json!({"instance": "powershell#2", "objectname": "Process"}),
            json!({"Percent_Processor_Time": 400.0, "ID_Process": 4120, "Elapsed_Time": 60 * minute}),
            minute,
        )
    }));
    app.send(&events).await;
    app.settle().await;
    assert_eq!(app.count("select round(max(share))::bigint from cpu_bucket").await, 100);
    assert_eq!(app.count("select round(max(cores))::bigint from cpu_bucket").await, 4);
}
