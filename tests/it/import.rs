//! `coalface import`: what comes out of files, archives and folders, and what is said about those that cannot be read.

use crate::{harness::TestApp, wire::process_start};
use coalface::import::{Report, import};
use indicatif::ProgressBar;
use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};
use zip::{ZipWriter, write::SimpleFileOptions};

async fn read(app: &TestApp, path: &Path) -> Vec<Report> {
    import(&app.app, vec![path.to_owned()], &ProgressBar::hidden()).await.unwrap()
}

fn counts(reports: &[Report]) -> Vec<(u64, u64, u64)> {
    reports.iter().map(|r| (r.accepted, r.duplicate, r.quarantined)).collect()
}

#[tokio::test]
async fn a_folder_of_every_kind_is_read_in_order_and_once() {
    let app = TestApp::new().await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let line = |record| format!("{}\n", process_start(record));
    fs::write(at("a.json"), format!("[{},{}]", process_start(1), process_start(2))).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(File::create(at("b.ndjson.gz")).unwrap(), flate2::Compression::fast());
    gzip.write_all((line(2) + "{broken\n" + &line(3)).as_bytes()).unwrap();
    gzip.finish().unwrap();
    fs::write(at("c.zst"), zstd::encode_all(line(4).as_bytes(), 3).unwrap()).unwrap();
    let mut zip = ZipWriter::new(File::create(at("d.zip")).unwrap());
    for (name, content) in
        [("../../outside.json", line(5)), ("inner/x.jsonl", line(6)), ("dump.bin", "\0\0\0".to_owned())]
    {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    fs::write(at("picture.png"), "not looked at").unwrap();

    let reports = read(&app, folder.path()).await;
    assert_eq!(counts(&reports), [(2, 0, 0), (1, 1, 1), (1, 0, 0), (2, 0, 0)], "{reports:#?}");
    assert_eq!(reports[3].troubles, ["dump.bin: neither an event log nor text"]);
    assert!(!reports.iter().any(Report::is_unread));
    assert!(!folder.path().parent().unwrap().join("outside.json").exists());

    let again = read(&app, folder.path()).await;
    assert_eq!(counts(&again), [(0, 2, 0), (0, 2, 1), (0, 1, 0), (0, 2, 0)]);
    assert_eq!(app.count("select count(*) from process_start").await, 6);
}

#[tokio::test]
async fn what_cannot_be_read_at_all_is_said() {
    let app = TestApp::new().await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("log.evtx"), "ElfFile\0 and then nothing").unwrap();
    fs::write(at("cut.gz"), [0x1F, 0x8B, 8, 0]).unwrap();
    fs::write(at("empty.json"), "").unwrap();
    let paths: Vec<PathBuf> = ["log.evtx", "cut.gz", "none.json", "empty.json"].map(at).into();
    let reports = import(&app.app, paths, &ProgressBar::hidden()).await.unwrap();
    let unread = |name: &str| reports.iter().find(|r| r.name.ends_with(name)).unwrap().is_unread();
    assert!(unread("log.evtx") && unread("cut.gz") && unread("none.json") && !unread("empty.json"), "{reports:#?}");
}

/// Real records, where they are at hand.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "where the telemetry lies is the tester's business")]
async fn real_records_are_read() {
    let folder = std::env::var_os("COALFACE_TELEMETRY")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/telemetry"), PathBuf::from);
    if !folder.is_dir() {
        return eprintln!("skipped: no telemetry in {}", folder.display());
    }
    let app = TestApp::new().await;
    let paths = ["evtx_attack", "winlogbeat_golden"].map(|name| folder.join(name)).into();
    let reports = import(&app.app, paths, &ProgressBar::hidden()).await.unwrap();
    assert!(reports.iter().any(|r| Path::new(&r.name).extension().is_some_and(|e| e == "evtx")));
    for report in &reports {
        assert!(
            report.accepted + report.duplicate > 0 && report.quarantined == 0 && report.troubles.is_empty(),
            "{report}"
        );
    }
}

/// What can be read of a damaged log is kept, the rest is reported. Needs a real one.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "where the telemetry lies is the tester's business")]
async fn a_damaged_event_log_gives_what_can_be_read() {
    const CHUNK: usize = 65_536;
    const HEADER: usize = 4_096;
    let folder = std::env::var_os("COALFACE_TELEMETRY")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/telemetry"), PathBuf::from);
    if !folder.is_dir() {
        return eprintln!("skipped: no telemetry in {}", folder.display());
    }
    let whole = fs::read(folder.join("winlogbeat_golden/sysmon/sysmon-10.2-dns.evtx")).unwrap();
    let mut holed = whole.clone();
    holed[HEADER + CHUNK..HEADER + 2 * CHUNK].fill(0x5A);
    let mut scribbled = whole.clone();
    scribbled[HEADER + 4_000..HEADER + 4_400].fill(0xFF);
    let mut dirty = whole.clone();
    dirty[32..124].fill(0xFF);
    let cut = &whole[..HEADER + CHUNK + CHUNK / 2];
    let inside = tempfile::tempdir().unwrap();
    for (name, bytes) in [("cut", cut), ("dirty", &dirty), ("holed", &holed), ("scribbled", &scribbled), ("whole", &whole)] {
        fs::write(inside.path().join(format!("{name}.evtx")), bytes).unwrap();
    }
    let app = TestApp::new().await;
    let reports = read(&app, inside.path()).await;
    let [cut, dirty, holed, scribbled, whole] = &reports[..] else { panic!("{reports:#?}") };
    let records = |report: &Report| report.accepted + report.duplicate;
    assert_eq!((records(whole), whole.troubles.len()), (156, 0), "{whole}");
    for damaged in [cut, holed, scribbled] {
        assert!((1..156).contains(&records(damaged)), "{damaged}");
        assert!(!damaged.troubles.is_empty() && !damaged.is_unread(), "{damaged}");
    }
    // The chunks say by themselves what they hold.
    assert_eq!(records(dirty), 156, "{dirty}");
}
