//! Class N beyond pools: onion routing, proxies, tunnels, resolvers, addresses nobody looked up, pools inside.

use super::tale::{MINER, MINER_PID, Program, Tale, tells_apart};
use serde_json::json;

/// The plain miner with one more connection of half an hour.
fn also(far: (&'static str, u16)) -> Tale {
    let mut tale = Tale::miner();
    tale.connects(5.0, MINER_PID, MINER, far, 50_200);
    tale.flow(5.0, 40.0, far, 50_200);
    tale
}

#[tokio::test]
async fn proxies_and_onion_routers_are_known_by_port() {
    tells_apart("N.PROXYNET", also(("198.51.100.7", 1080)), also(("198.51.100.7", 443))).await;
    tells_apart("N.TOR", also(("127.0.0.1", 9050)), also(("127.0.0.1", 8080))).await;
}

#[tokio::test]
async fn a_tunnelling_program_of_the_lineage_counts() {
    let helper = |image: &'static str| {
        let mut tale = Tale::miner();
        tale.start(1.0, Program { pid: 91, image, line: image, parent: (MINER_PID, MINER), sha: "ee02", ..Program::default() });
        tale.connects(1.2, 91, image, ("198.51.100.9", 443), 50_300);
        tale
    };
    tells_apart("N.TUNNEL", helper(r"C:\ProgramData\upd\chisel.exe"), helper(r"C:\ProgramData\upd\chiselled.exe")).await;
}

#[tokio::test]
async fn a_resolver_over_https_counts_before_another_connection() {
    let asks = |minute: f64| {
        let mut tale = Tale::miner();
        tale.connects(minute, MINER_PID, MINER, ("1.1.1.1", 443), 50_400);
        tale
    };
    tells_apart("N.DOH", asks(0.1), asks(60.0)).await;
}

#[tokio::test]
async fn an_address_that_nobody_looked_up_counts_where_look_ups_are_seen() {
    let looked_up = |name: Option<&'static str>, answer: &'static str| {
        let mut tale = Tale::miner();
        if let Some(name) = name {
            tale.sysmon_of(0.1, 22, MINER_PID, MINER, json!({"QueryName": name, "QueryStatus": "0", "QueryResults": format!("::ffff:{answer};")}));
        }
        tale
    };
    tells_apart("N.DIRECTIP", looked_up(Some("time.example"), "192.0.2.77"), looked_up(Some("pool.example"), super::tale::POOL)).await;
    let (_, codes) = looked_up(None, "").found().await;
    assert!(!codes.contains("N.DIRECTIP"), "without look-ups nothing is known: {codes:?}");
}

#[tokio::test]
async fn a_pools_port_inside_counts_and_a_file_server_does_not() {
    let inside = |port: u16| {
        let mut tale = Tale::default();
        tale.start(0.0, Program { line: r"C:\ProgramData\upd\upd.exe --donate-level=1", ..Program::default() });
        tale.load(MINER_PID, MINER, 0..90, 0.9, 600_000_000);
        tale.connects(0.2, MINER_PID, MINER, ("10.20.9.9", port), 50_123);
        tale.flow(0.2, 85.0, ("10.20.9.9", port), 50_123);
        tale
    };
    tells_apart("N.INTPROXY", inside(3333), inside(445)).await;
    assert_eq!(inside(3333).found().await.0, "alert");
}
