//! Class R beside processor runs, and what nobody can attribute.

use super::tale::{MINER, MINER_PID, POOL, Program, Tale, tells_apart};

/// A miner that leaves the processors alone.
fn gpu(engine: &str, minutes: i32, percent: f64) -> Tale {
    let mut tale = Tale::default();
    tale.start(0.0, Program { line: r"C:\ProgramData\upd\upd.exe --algo KAWPOW --pool 203.0.113.9:3333 --user kim", ..Program::default() });
    tale.load(MINER_PID, MINER, 0..90, 0.02, 600_000_000);
    tale.engine(MINER_PID, engine, 0..minutes, percent);
    tale.connects(0.2, MINER_PID, MINER, (POOL, 3333), 50_123);
    tale.flow(0.2, 85.0, (POOL, 3333), 50_123);
    tale
}

#[tokio::test]
async fn busy_compute_engines_are_load_and_short_or_video_work_is_not() {
    tells_apart("R.GPU", gpu("Compute_0", 60, 97.0), gpu("Compute_0", 12, 97.0)).await;
    tells_apart("R.GPU", gpu("Cuda", 20, 60.0), gpu("VideoDecode", 60, 97.0)).await;
    assert_eq!(gpu("Compute_0", 60, 97.0).found().await.0, "alert");
}

/// Ten minutes of every thirty, all day, for so many days.
fn intermittent(days: i32, busy: i32) -> Tale {
    let mut tale = Tale::default();
    for (n, begin) in (0..days).flat_map(|day| (0..18).map(move |k| day * 1_440 + 60 + k * 30)).enumerate() {
        let (pid, minute) = (5_000 + n as i64, f64::from(begin));
        tale.start(minute, Program { pid, ..Program::default() });
        tale.load(pid, MINER, begin..begin + busy, 0.9, 600_000_000);
        tale.connects(minute + 0.2, pid, MINER, (POOL, 3333), 50_123 + u16::try_from(n).unwrap());
        tale.stop(minute + f64::from(busy), pid, MINER);
    }
    tale
}

#[tokio::test]
async fn duty_on_three_of_five_days_is_load_and_two_days_are_not() {
    tells_apart("R.DUTY", intermittent(3, 10), intermittent(2, 10)).await;
}

/// Load that the list of processes does not show, and a connection that only the sensor saw.
fn hidden(total: f64, listed: f64) -> Tale {
    let mut tale = Tale::default();
    tale.start(-30.0, Program { pid: 900, image: r"C:\Windows\System32\spoolsv.exe", line: r"C:\Windows\System32\spoolsv.exe", ..Program::default() });
    tale.connects(-29.0, 900, r"C:\Windows\System32\spoolsv.exe", ("10.0.0.40", 445), 49_900);
    tale.load(900, r"C:\Windows\System32\spoolsv.exe", 0..120, listed, 40_000_000);
    tale.load(4, "System", 0..120, 0.0, 1_000_000);
    tale.host_load(0..120, total);
    tale.flow(1.0, 110.0, (POOL, 3333), 50_123);
    tale
}

#[tokio::test]
async fn load_that_no_process_explains_beside_a_pool_is_a_partial_finding() {
    let (verdict, codes) = hidden(0.72, 0.04).found().await;
    assert_eq!(verdict, "partial", "{codes:?}");
    for code in ["R.UNATTRIB", "N.IOC", "P.LONG30", "P.IOC", "N.PERSIST"] {
        assert!(codes.contains(code), "{code} in {codes:?}");
    }
    let (_, codes) = hidden(0.40, 0.18).found().await;
    assert!(!codes.contains("R.UNATTRIB"), "22 % that nobody explains are not enough: {codes:?}");
}

#[tokio::test]
async fn what_nobody_owns_counts_for_the_only_load_of_that_time() {
    let tale = |pool_at: f64| {
        let mut tale = Tale::default();
        let worker = r"C:\Windows\System32\vmwp.exe";
        tale.start(0.0, Program { pid: 3_000, image: worker, line: "vmwp.exe 1F2A90C4", ..Program::default() });
        tale.connects(-9.0, 900, r"C:\Windows\System32\spoolsv.exe", ("10.0.0.40", 445), 49_900);
        tale.load(3_000, worker, 0..150, 0.9, 8_000_000_000);
        tale.flow(pool_at, 90.0, (POOL, 3333), 50_123);
        tale
    };
    let (verdict, codes) = tale(5.0).found().await;
    assert_eq!(verdict, "partial", "a guest's command line cannot be seen: {codes:?}");
    assert!(codes.contains("N.IOC") && codes.contains("P.LONG30"), "{codes:?}");
    let (verdict, codes) = tale(300.0).found().await;
    assert_eq!(verdict, "none", "the pool was met hours later: {codes:?}");
}

#[tokio::test]
async fn a_program_that_comes_back_again_and_again_is_told_from_a_daily_one() {
    let tale = |pause: i32| {
        let mut tale = Tale::default();
        let line = r"C:\ProgramData\upd\upd.exe -o stratum+tcp://203.0.113.9:3333 -u kim";
        for n in 0..8 {
            let (pid, begin) = (5_000 + i64::from(n), n * (8 + pause));
            tale.start(f64::from(begin), Program { pid, line, ..Program::default() });
            tale.load(pid, MINER, begin..begin + 8, 0.9, 600_000_000);
            tale.connects(f64::from(begin) + 0.2, pid, MINER, (POOL, 3333), 50_123 + u16::try_from(n).unwrap());
            tale.stop(f64::from(begin) + 8.0, pid, MINER);
        }
        tale
    };
    tells_apart("L.RESPAWN", tale(1), tale(5)).await;
}
