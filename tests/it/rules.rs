//! The shipped rules held against real telemetry of others: nothing hard may fire on benign machines.

use coalface::{
    model::{
        code::{Code, Force},
        event::{Defaults, RawRecord},
        fact::Fact,
    },
    rules::{Hit, Ruleset},
    sources,
};
use flate2::read::MultiGzDecoder;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where the telemetry of others lies; it is not part of the repository.
#[expect(clippy::disallowed_methods, reason = "a test may be pointed at another folder")]
fn telemetry() -> PathBuf {
    std::env::var_os("COALFACE_TELEMETRY")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/telemetry"), PathBuf::from)
}

/// Lines of a file: `.gz`, or a `.zip` of NDJSON.
fn lines(path: &Path) -> Vec<Vec<u8>> {
    let file = File::open(path).unwrap();
    let split = |read: &mut dyn Read| BufReader::new(read).split(b'\n').map(Result::unwrap).collect::<Vec<_>>();
    if path.extension().is_some_and(|e| e == "gz") {
        return split(&mut MultiGzDecoder::new(file));
    }
    let mut archive = zip::ZipArchive::new(file).unwrap();
    (0..archive.len()).flat_map(|n| split(&mut archive.by_index(n).unwrap())).collect()
}

/// What the shipped rules say of the files of a folder whose name contains `part`, and how many process starts are in them;
/// `None` if the telemetry is not here.
#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
fn hits(folder: &str, part: &str) -> Option<(Vec<Hit>, usize)> {
    let root = telemetry();
    if !root.is_dir() {
        eprintln!("skipped: no telemetry in {}", root.display());
        return None;
    }
    let rules = Ruleset::load(None).unwrap();
    let defaults = Arc::new(Defaults { utc_offset_minutes: Some(0), ..Defaults::default() });
    let (mut hits, mut starts) = (Vec::new(), 0);
    for entry in root.join(folder).read_dir().unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().contains(part) || path.to_string_lossy().contains("zeek") {
            continue;
        }
        for line in lines(&path) {
            let record = RawRecord { bytes: line.into(), client_id: None, defaults: Arc::clone(&defaults) };
            for event in sources::decode(&record).into_iter().flatten() {
                starts += usize::from(matches!(event.fact, Fact::ProcessStart(_)));
                rules.hits(&event, &mut hits);
            }
        }
    }
    Some((hits, starts))
}

fn stronger_than_plain(hits: &[Hit]) -> Vec<&Hit> {
    hits.iter().filter(|hit| hit.force != Force::Plain).collect()
}

#[test]
fn nothing_hard_and_no_discriminator_fires_on_benign_machines() {
    let Some((hits, starts)) = hits("benign", "") else { return };
    assert!(starts > 300, "{starts} process starts");
    assert!(stronger_than_plain(&hits).is_empty(), "{:#?}", stronger_than_plain(&hits));
}

#[test]
fn deployment_over_winrm_gives_plain_evidence_only() {
    let Some((hits, _)) = hits("splunk_attack_range_nxlog", "") else { return };
    assert!(hits.iter().any(|hit| hit.code == Code::CObfHigh), "dozens of encoded commands are in it");
    assert!(stronger_than_plain(&hits).is_empty(), "{:#?}", stronger_than_plain(&hits));
}

#[test]
fn known_attacks_show_their_command_lines() {
    for (file, code) in [
        ("empire_launcher_vbs", Code::CObfHigh),
        ("empire_psremoting_stager", Code::CObfHigh),
        ("empire_schtasks_creation_standard_user", Code::CObfHigh),
        ("cmd_bitsadmin_download_psh_script", Code::CCradle),
    ] {
        let Some((hits, _)) = hits("mordor_attack", file) else { return };
        assert!(hits.iter().any(|hit| hit.code == code), "{file}: {hits:#?}");
        assert!(stronger_than_plain(&hits).is_empty(), "{file} mines nothing: {:#?}", stronger_than_plain(&hits));
    }
}
