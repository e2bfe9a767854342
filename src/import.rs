//! `coalface import`: files of events through the same line as the ingest port. What a file is, its first bytes say; archives are
//! read in passing and the names inside them are only shown, never used as paths.
//!
//! One thread reads, decodes and judges while the previous batch is being committed.

use crate::{
    app::App,
    intake::{self, Batch, Origin, Outcome, Receipt, split},
    model::event::{Defaults, RawRecord},
};
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use evtx::{EvtxParser, ParserSettings};
use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    fmt,
    fs::{self, File},
    io::{self, BufReader, Cursor, Read, Seek, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;
use zip::ZipArchive;

/// Records of one batch. Chosen: a quarter of what the writer commits at once.
const BATCH: usize = 5_000;
/// Bytes of one batch, so that records of the largest size fit in the writer's budget.
const BATCH_BYTES: usize = 16 << 20;
/// Largest file that must be in memory whole: an event log or archive inside an archive or on standard input.
const IN_MEMORY: u64 = 1 << 30;
/// Archives inside archives.
const DEEPEST: usize = 3;
/// How often a batch is offered while the database is away, a second apart.
const TRIES: usize = 60;
/// What is taken from a folder. A file named by itself may have any name.
const EXTENSIONS: [&str; 9] = ["evtx", "json", "ndjson", "jsonl", "log", "xml", "gz", "zst", "zip"];

/// What became of the records of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Path as given or found.
    pub name: String,
    /// Stored now.
    pub accepted: u64,
    /// Stored before.
    pub duplicate: u64,
    /// Kept with a reason.
    pub quarantined: u64,
    /// What could not be read in it: damaged chunks, encrypted members ..
    pub troubles: Vec<String>,
}

impl Report {
    fn records(&self) -> u64 {
        self.accepted + self.duplicate + self.quarantined
    }

    /// Whether nothing at all came out of it because it could not be read.
    pub fn is_unread(&self) -> bool {
        self.records() == 0 && !self.troubles.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, accepted, duplicate, quarantined, troubles } = self;
        write!(f, "{name}: {accepted} accepted, {duplicate} duplicate, {quarantined} quarantined")?;
        for trouble in troubles.iter().take(3) {
            write!(f, "; {trouble}")?;
        }
        match troubles.len() {
            0..=3 => Ok(()),
            all => write!(f, "; and {} more", all - 3),
        }
    }
}

/// Imports on a terminal: progress on standard error, a line per file on standard output; failure if any file could not be read.
///
/// # Errors
/// When the database stays away, or a path does not exist.
pub async fn run(app: Arc<App>, paths: Vec<PathBuf>) -> anyhow::Result<ExitCode> {
    let bar = ProgressBar::new(0)
        .with_style(ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {eta} {wide_msg}")?);
    let reports = import(&app, paths, &bar).await?;
    bar.finish_and_clear();
    let mut out = io::stdout().lock();
    for report in &reports {
        writeln!(out, "{report}").context("printing")?;
    }
    Ok(if reports.iter().any(Report::is_unread) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Stores the events of files, of the files in folders, or of standard input (`-`); one report per file, in order.
///
/// # Errors
/// When the database stays away. What is wrong with a file stands in its report.
pub async fn import(app: &Arc<App>, paths: Vec<PathBuf>, bar: &ProgressBar) -> anyhow::Result<Vec<Report>> {
    // One batch waits while one is committed.
    let (sender, mut batches) = mpsc::channel::<Full>(1);
    let reader = Reader::new(Arc::clone(app), sender, bar.clone());
    let reader = app.tasks.spawn_blocking(move || reader.read_all(&paths));
    let mut counts: Vec<Report> = Vec::new();
    while let Some(full) = batches.recv().await {
        let file = full.file;
        let receipt = submit(app, full).await?;
        if counts.len() <= file {
            counts.resize(file + 1, Report::default());
        }
        for outcome in &receipt.outcomes {
            match outcome {
                Outcome::Accepted => counts[file].accepted += 1,
                Outcome::Duplicate => counts[file].duplicate += 1,
                Outcome::Quarantined(_) => counts[file].quarantined += 1,
            }
        }
    }
    let mut reports = reader.await.context("reading files")?;
    for (report, count) in reports.iter_mut().zip(counts) {
        let Report { accepted, duplicate, quarantined, .. } = count;
        *report = Report { accepted, duplicate, quarantined, ..std::mem::take(report) };
    }
    Ok(reports)
}

/// Stores a batch; while the database is away it is offered again.
async fn submit(app: &Arc<App>, full: Full) -> anyhow::Result<Receipt> {
    let Full { mut batch, records, .. } = full;
    for _ in 0..TRIES {
        match app.writer.submit(batch).await {
            Ok(receipt) => return Ok(receipt),
            Err(refused) => tracing::warn!("import waits: {refused}"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (app, records) = (Arc::clone(app), records.clone());
        batch = tokio::task::spawn_blocking(move || prepare(&app, records)).await.context("decoding")?;
    }
    bail!("the database did not take the events for {TRIES} s");
}

fn prepare(app: &App, records: Vec<RawRecord>) -> Batch {
    let origin = Origin { token: "import".to_owned(), protocol: "import", request_id: String::new() };
    intake::prepare(records, &app.rules, origin, app.clock.now())
}

/// Decoded records of one file, and the records themselves in case they must be offered twice.
#[derive(Debug)]
struct Full {
    file: usize,
    batch: Batch,
    records: Vec<RawRecord>,
}

/// Reads files one after another and hands on what is in them. Runs on a thread where it may block.
struct Reader {
    app: Arc<App>,
    batches: mpsc::Sender<Full>,
    bar: ProgressBar,
    defaults: Arc<Defaults>,
    pending: Vec<RawRecord>,
    pending_bytes: usize,
    reports: Vec<Report>,
}

impl Reader {
    fn new(app: Arc<App>, batches: mpsc::Sender<Full>, bar: ProgressBar) -> Self {
        let defaults = Arc::new(Defaults { token: "import".to_owned(), ..Defaults::default() });
        Self { app, batches, bar, defaults, pending: Vec::new(), pending_bytes: 0, reports: Vec::new() }
    }

    fn read_all(mut self, paths: &[PathBuf]) -> Vec<Report> {
        let mut files = Vec::new();
        for path in paths {
            if let Err(error) = find(path, true, &mut files) {
                self.reports.push(Report {
                    name: path.display().to_string(),
                    troubles: vec![error.to_string()],
                    ..Report::default()
                });
            }
        }
        self.bar.set_length(files.iter().filter_map(|path| fs::metadata(path).ok()).map(|meta| meta.len()).sum());
        for path in files {
            let name = path.display().to_string();
            self.bar.set_message(name.clone());
            self.reports.push(Report { name, ..Report::default() });
            let read = self.file(&path).and_then(|()| self.hand_on());
            if let Err(error) = read {
                self.trouble(format!("{error:#}"));
            }
            if self.batches.is_closed() {
                break;
            }
        }
        self.reports
    }

    fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        let bar = self.bar.clone();
        if path == Path::new("-") {
            return self.content(Input::Stream(Box::new(Counted { inner: io::stdin().lock(), bar })), 0);
        }
        let file = File::open(path)?;
        self.content(Input::File(Box::new(BufReader::new(Counted { inner: file, bar }))), 0)
    }

    /// Reads what the first bytes say it is.
    fn content(&mut self, input: Input<'_>, depth: usize) -> anyhow::Result<()> {
        ensure!(depth <= DEEPEST, "archives are nested more than {DEEPEST} deep");
        let (head, input) = input.peek()?;
        match head.as_slice() {
            [0x1F, 0x8B, ..] => self.content(Input::Stream(Box::new(MultiGzDecoder::new(input.reader()))), depth + 1),
            [0x28, 0xB5, 0x2F, 0xFD, ..] => {
                self.content(Input::Stream(Box::new(zstd::Decoder::new(input.reader())?)), depth + 1)
            }
            [b'P', b'K', 3 | 5, 4 | 6, ..] => self.archive(input.seekable()?, depth),
            [b'E', b'l', b'f', b'F', b'i', b'l', b'e', 0, ..] => self.event_log(input.seekable()?),
            // PowerShell writes UTF-16 unless told otherwise.
            [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => {
                let text = utf16(&input.whole()?);
                for record in split::documents(&Bytes::from(text)) {
                    self.push(record)?;
                }
                Ok(())
            }
            _ if head.contains(&0) => bail!("neither an event log nor text"),
            _ => {
                for document in split::Records::new(input.reader()) {
                    for record in split::opened(document?) {
                        self.push(record)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn archive(&mut self, file: Box<dyn ReadSeek + '_>, depth: usize) -> anyhow::Result<()> {
        let mut archive = ZipArchive::new(file).context("reading the list of members")?;
        for index in 0..archive.len() {
            let read = match archive.by_index(index) {
                Ok(member) if member.is_dir() => continue,
                Ok(member) => {
                    let name = member.name().to_owned();
                    self.content(Input::Stream(Box::new(member)), depth + 1).with_context(|| name)
                }
                Err(error) => Err(error).with_context(|| format!("member {}", index + 1)),
            };
            // One bad member does not cost the others.
            if let Err(error) = read {
                ensure!(!self.batches.is_closed(), "stopped");
                self.trouble(format!("{error:#}"));
            }
        }
        Ok(())
    }

    fn event_log(&mut self, file: Box<dyn ReadSeek + '_>) -> anyhow::Result<()> {
        let settings = ParserSettings::new().indent(false);
        let file = WholeChunks::new(file)?;
        if file.missing() > 0 {
            self.trouble(format!("cut off: {} bytes of its last chunk are missing", file.missing()));
        }
        let mut parser = EvtxParser::from_read_seek(file)?.with_configuration(settings);
        for record in parser.records_json() {
            match record {
                Ok(record) => self.push(Bytes::from(record.data))?,
                // A damaged chunk or record; the next one is tried.
                Err(error) => self.trouble(error.to_string()),
            }
        }
        Ok(())
    }

    fn push(&mut self, bytes: Bytes) -> anyhow::Result<()> {
        self.pending_bytes += bytes.len();
        self.pending.push(RawRecord { bytes, client_id: None, defaults: Arc::clone(&self.defaults) });
        if self.pending.len() >= BATCH || self.pending_bytes >= BATCH_BYTES { self.hand_on() } else { Ok(()) }
    }

    fn hand_on(&mut self) -> anyhow::Result<()> {
        self.pending_bytes = 0;
        let records = std::mem::take(&mut self.pending);
        if records.is_empty() {
            return Ok(());
        }
        let batch = prepare(&self.app, records.clone());
        let full = Full { file: self.reports.len() - 1, batch, records };
        self.batches.blocking_send(full).context("stopped")
    }

    fn trouble(&mut self, text: String) {
        if let Some(report) = self.reports.last_mut() {
            tracing::debug!(file = report.name, "{text}");
            report.troubles.push(text);
        }
    }
}

/// The path, or the files below it that may hold events, by name. Links to folders are not followed.
fn find(path: &Path, is_named: bool, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path == Path::new("-") {
        files.push(path.to_owned());
        return Ok(());
    }
    if !fs::metadata(path)?.is_dir() {
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        if is_named || EXTENSIONS.contains(&extension.as_str()) {
            files.push(path.to_owned());
        }
        return Ok(());
    }
    if !is_named && fs::symlink_metadata(path)?.is_symlink() {
        return Ok(());
    }
    let mut inside = fs::read_dir(path)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    inside.sort();
    inside.iter().try_for_each(|path| find(path, false, files))
}

/// Text in UTF-16 with a byte order mark, as UTF-8.
fn utf16(bytes: &[u8]) -> String {
    let order = if bytes.starts_with(&[0xFE, 0xFF]) { u16::from_be_bytes } else { u16::from_le_bytes };
    let units = bytes.chunks_exact(2).skip(1).map(|pair| order([pair[0], pair[1]]));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

/// A file, or what comes out of one.
enum Input<'a> {
    File(Box<dyn ReadSeek + 'a>),
    Stream(Box<dyn Read + 'a>),
}

impl<'a> Input<'a> {
    /// The first bytes, and the input as it was.
    fn peek(self) -> io::Result<(Vec<u8>, Self)> {
        const HEAD: u64 = 512;
        let mut head = Vec::new();
        match self {
            Self::File(mut file) => {
                file.by_ref().take(HEAD).read_to_end(&mut head)?;
                file.seek(SeekFrom::Start(0))?;
                Ok((head, Self::File(file)))
            }
            Self::Stream(mut stream) => {
                stream.by_ref().take(HEAD).read_to_end(&mut head)?;
                let whole = Cursor::new(head.clone()).chain(stream);
                Ok((head, Self::Stream(Box::new(whole))))
            }
        }
    }

    fn reader(self) -> Box<dyn Read + 'a> {
        match self {
            Self::File(file) => Box::new(file),
            Self::Stream(stream) => stream,
        }
    }

    fn seekable(self) -> anyhow::Result<Box<dyn ReadSeek + 'a>> {
        match self {
            Self::File(file) => Ok(file),
            Self::Stream(_) => Ok(Box::new(Cursor::new(self.whole()?))),
        }
    }

    fn whole(self) -> anyhow::Result<Vec<u8>> {
        let mut whole = Vec::new();
        self.reader().take(IN_MEMORY + 1).read_to_end(&mut whole)?;
        ensure!(whole.len() as u64 <= IN_MEMORY, "larger than {IN_MEMORY} bytes unpacked: unpack it first");
        Ok(whole)
    }
}

/// An event log as if nothing had been cut off: zeros fill its last chunk, so that the records before are read.
struct WholeChunks<R> {
    inner: R,
    length: u64,
    position: u64,
}

impl<R: Read + Seek> WholeChunks<R> {
    const HEADER: u64 = 4_096;
    const CHUNK: u64 = 65_536;

    fn new(mut inner: R) -> io::Result<Self> {
        let length = inner.seek(SeekFrom::End(0))?;
        inner.seek(SeekFrom::Start(0))?;
        Ok(Self { inner, length, position: 0 })
    }

    /// How many zeros that takes.
    fn missing(&self) -> u64 {
        let chunks = self.length.saturating_sub(Self::HEADER);
        chunks.next_multiple_of(Self::CHUNK) - chunks
    }
}

impl<R: Read + Seek> Read for WholeChunks<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = if self.position < self.length {
            self.inner.read(into)?
        } else {
            let left = (self.length + self.missing()).saturating_sub(self.position);
            let zeros = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            into[..zeros].fill(0);
            zeros
        };
        self.position += read as u64;
        Ok(read)
    }
}

impl<R: Read + Seek> Seek for WholeChunks<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => (self.length + self.missing()).checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = to.ok_or(io::ErrorKind::InvalidInput)?;
        self.inner.seek(SeekFrom::Start(self.position.min(self.length)))?;
        Ok(self.position)
    }
}

/// Shows on the bar what is read.
struct Counted<R> {
    inner: R,
    bar: ProgressBar,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.bar.inc(read as u64);
        Ok(read)
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_give_what_may_hold_events_in_order() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        for name in ["b.JSON", "a/z.evtx", "a/readme.md", "c.log.gz", "d.png"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let mut files = Vec::new();
        find(folder.path(), true, &mut files).unwrap();
        let names: Vec<_> = files.iter().map(|f| f.strip_prefix(folder.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a/z.evtx", "b.JSON", "c.log.gz"]);
        assert!(find(&folder.path().join("none"), true, &mut files).is_err());
    }

    #[test]
    fn utf16_is_read_in_either_order() {
        let text = "{\"a\":\"é𝄞\"}";
        let marked = || std::iter::once(0xFEFF).chain(text.encode_utf16());
        assert_eq!(utf16(&marked().flat_map(u16::to_le_bytes).collect::<Vec<_>>()), text);
        assert_eq!(utf16(&marked().flat_map(u16::to_be_bytes).collect::<Vec<_>>()), text);
    }

    #[test]
    fn a_log_that_was_cut_off_ends_in_zeros() {
        let mut log = WholeChunks::new(Cursor::new(vec![7; 4_096 + 65_536 + 10])).unwrap();
        assert_eq!((log.missing(), log.seek(SeekFrom::End(0)).unwrap()), (65_526, 4_096 + 2 * 65_536));
        log.seek(SeekFrom::Start(4_096 + 65_536)).unwrap();
        let mut last = Vec::new();
        log.read_to_end(&mut last).unwrap();
        assert_eq!((last.len(), last.iter().take_while(|b| **b == 7).count()), (65_536, 10));
        assert_eq!(WholeChunks::new(Cursor::new(vec![7; 4_096 + 65_536])).unwrap().missing(), 0);
    }

    #[test]
    fn a_report_says_what_could_not_be_read() {
        let mut report = Report { name: "x.zip".into(), accepted: 2, ..Report::default() };
        assert!(!report.is_unread());
        report.troubles = vec!["member 3: encrypted".into()];
        assert_eq!(report.to_string(), "x.zip: 2 accepted, 0 duplicate, 0 quarantined; member 3: encrypted");
        assert!(!report.is_unread());
        assert!(Report { accepted: 0, ..report }.is_unread());
    }
}
