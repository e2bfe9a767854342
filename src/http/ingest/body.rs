//! Request bodies: read with deadlines, decompressed as they arrive, every byte counted before it is kept. Numbers: trust design,
//! section 9. A body that is over a limit costs what came until then and no more.

use super::Refusal;
use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header},
};
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http_body_util::BodyExt as _;
use std::{
    collections::HashMap,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};
use zstd::stream::raw::{self, DParameter, InBuffer, Operation as _, OutBuffer};

/// Most bytes of one body on the wire.
const WIRE: usize = 32 << 20;
/// Most bytes of one body decoded.
pub(super) const DECODED: usize = 64 << 20;
/// Most decoded bytes per byte on the wire, counted beyond the first [`RATIO_FREE`].
const RATIO: usize = 200;
/// Decoded bytes below which the ratio does not matter: repetitive logs compress well.
const RATIO_FREE: usize = 8 << 20;
/// Largest zstd window, as a power of two.
const WINDOW_LOG: u32 = 23;
/// Longest wait for more of a body.
const IDLE: Duration = Duration::from_secs(30);
/// Longest a body may take in all.
const WHOLE: Duration = Duration::from_mins(5);
/// Slowest mean rate after [`IDLE`], in bytes per second.
const SLOWEST: u64 = 4_000;
/// Most bytes held by all requests in flight.
const IN_FLIGHT: usize = 96 << 20;
/// Most bytes held by the requests of one token.
const IN_FLIGHT_TOKEN: usize = 64 << 20;
/// Most bytes held by requests that prove themselves inside the body (osquery). Chosen: several of its largest batches.
const IN_FLIGHT_STRANGERS: usize = 8 << 20;
/// Stands for the token of those; no token has this number.
pub(super) const STRANGER: i64 = 0;

/// Bytes that requests in flight hold.
#[derive(Debug, Default)]
pub(super) struct Budget(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by_token: HashMap<i64, usize>,
}

impl Budget {
    /// A share that can grow, for a request of this token.
    pub(super) fn share(self: &Arc<Self>, token: i64) -> Share {
        Share { budget: Arc::clone(self), token, bytes: 0 }
    }
}

/// What one request holds; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    token: i64,
    bytes: usize,
}

impl Share {
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let most = if self.token == STRANGER { IN_FLIGHT_STRANGERS } else { IN_FLIGHT_TOKEN };
        let mut held = self.budget.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = held.by_token.get(&self.token).copied().unwrap_or(0) + bytes;
        if held.all + bytes > IN_FLIGHT {
            return Err(Refusal::Busy);
        }
        if mine > most + (1 << 20) {
            return Err(Refusal::Quota);
        }
        held.all += bytes;
        held.by_token.insert(self.token, mine);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.budget.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.all -= self.bytes;
        let left = held.by_token.get(&self.token).map_or(0, |mine| mine - self.bytes);
        if left > 0 {
            held.by_token.insert(self.token, left);
        } else {
            held.by_token.remove(&self.token);
        }
    }
}

/// Reads and decodes a whole body; the share is held as long as the bytes are.
pub(super) async fn read(headers: &HeaderMap, mut body: Body, share: Share) -> Result<(Bytes, Share), Refusal> {
    let coding = Coding::of(headers)?;
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if announced.is_some_and(|length| length > WIRE) {
        return Err(Refusal::TooLarge("the body is larger than 32 MiB"));
    }
    let started = Instant::now();
    let mut sink = Some(Sink { bytes: Vec::new(), wire: 0, share, refusal: None });
    let mut decoder = None;
    while let Some(frame) = timeout(IDLE, body.frame()).await.map_err(|_| Refusal::Slow)? {
        let frame = frame.map_err(|_| Refusal::Malformed("the body ended early"))?;
        let Ok(chunk) = frame.into_data() else { continue };
        let Some(first) = chunk.first() else { continue };
        let decoder = match &mut decoder {
            Some(decoder) => decoder,
            none => none.insert(Decoder::new(coding, *first, sink.take().ok_or(Refusal::Busy)?)?),
        };
        let into = decoder.sink();
        into.wire += chunk.len();
        if into.wire > WIRE {
            return Err(Refusal::TooLarge("the body is larger than 32 MiB"));
        }
        let (wire, elapsed) = (into.wire as u64, started.elapsed());
        if elapsed > WHOLE || (elapsed > IDLE && wire < elapsed.as_secs() * SLOWEST) {
            return Err(Refusal::Slow);
        }
        decoder.push(&chunk).map_err(|error| decoder.refusal(&error))?;
    }
    let sink = match (decoder, sink) {
        (Some(decoder), _) => decoder.finish()?,
        (None, Some(sink)) => sink,
        (None, None) => return Err(Refusal::Busy),
    };
    if compressed(&sink.bytes) {
        return Err(Refusal::TooLarge("compressed twice, or without saying so in Content-Encoding"));
    }
    Ok((Bytes::from(sink.bytes), sink.share))
}

/// Whether the bytes are those of a gzip or zstd file: no record begins so.
fn compressed(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1F, 0x8B]) || bytes.starts_with(&[0x28, 0xB5, 0x2F, 0xFD])
}

/// What `Content-Encoding` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

impl Coding {
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut found = Self::Identity;
        for value in headers.get_all(header::CONTENT_ENCODING) {
            for name in value.to_str().map_err(|_| Refusal::UnsupportedEncoding)?.split(',') {
                let coding = match name.trim().to_ascii_lowercase().as_str() {
                    "" | "identity" => continue,
                    "gzip" | "x-gzip" => Self::Gzip,
                    "deflate" => Self::Deflate,
                    "zstd" => Self::Zstd,
                    _ => return Err(Refusal::UnsupportedEncoding),
                };
                if found != Self::Identity {
                    return Err(Refusal::TooLarge("compressed twice"));
                }
                found = coding;
            }
        }
        Ok(found)
    }
}

/// Where decoded bytes go, up to the limits.
#[derive(Debug)]
struct Sink {
    bytes: Vec<u8>,
    wire: usize,
    share: Share,
    /// Why it takes no more.
    refusal: Option<Refusal>,
}

impl Sink {
    fn take(&mut self, more: &[u8]) -> Result<(), Refusal> {
        let length = self.bytes.len() + more.len();
        if length > DECODED {
            return Err(Refusal::TooLarge("the body is larger than 64 MiB decoded"));
        }
        if length > RATIO_FREE && length / RATIO > self.wire {
            return Err(Refusal::TooLarge("the body is compressed more than 200 to 1"));
        }
        if length > self.bytes.capacity() {
            let capacity = (self.bytes.capacity() * 2).clamp(64 << 10, DECODED).max(length);
            self.share.grow(capacity - self.bytes.capacity())?;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if let Err(refusal) = self.take(more) {
            self.refusal = Some(refusal);
            return Err(io::Error::other(refusal));
        }
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decompression that is fed as bytes arrive.
enum Decoder {
    Identity(Sink),
    Gzip(MultiGzDecoder<Sink>),
    Zlib(ZlibDecoder<Sink>),
    Deflate(DeflateDecoder<Sink>),
    Zstd(Box<Zstd>),
}

impl Decoder {
    fn new(coding: Coding, first: u8, mut sink: Sink) -> Result<Self, Refusal> {
        Ok(match coding {
            Coding::Identity => Self::Identity(sink),
            Coding::Gzip => Self::Gzip(MultiGzDecoder::new(sink)),
            // "deflate" means the zlib format (RFC 9110, section 8.4.1.2); some senders leave its header out.
            Coding::Deflate if first & 0x0F == 8 => Self::Zlib(ZlibDecoder::new(sink)),
            Coding::Deflate => Self::Deflate(DeflateDecoder::new(sink)),
            Coding::Zstd => {
                // What a window of a stream at the default level takes.
                sink.share.grow(2 << 20)?;
                let decoder = raw::Decoder::new().and_then(|mut decoder| {
                    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
                    Ok(decoder)
                });
                let decoder = decoder.map_err(|_| Refusal::Busy)?;
                Self::Zstd(Box::new(Zstd { decoder, sink, buffer: Vec::with_capacity(128 << 10), frame_ended: true }))
            }
        })
    }

    fn sink(&mut self) -> &mut Sink {
        match self {
            Self::Identity(sink) => sink,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zlib(decoder) => decoder.get_mut(),
            Self::Deflate(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => &mut decoder.sink,
        }
    }

    fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        match self {
            Self::Identity(sink) => sink.write_all(chunk),
            Self::Gzip(decoder) => decoder.write_all(chunk),
            Self::Zlib(decoder) => decoder.write_all(chunk),
            Self::Deflate(decoder) => decoder.write_all(chunk),
            Self::Zstd(decoder) => decoder.push(chunk),
        }
    }

    fn refusal(&mut self, error: &io::Error) -> Refusal {
        // zstd has no code for this that the crate passes on.
        if error.to_string().contains("too much memory") {
            return Refusal::TooLarge("the zstd window is larger than 8 MiB");
        }
        self.sink().refusal.unwrap_or(Refusal::Malformed("the compressed body is damaged"))
    }

    fn finish(mut self) -> Result<Sink, Refusal> {
        let finished = match &mut self {
            Self::Identity(_) => Ok(()),
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zlib(decoder) => decoder.try_finish(),
            Self::Deflate(decoder) => decoder.try_finish(),
            Self::Zstd(decoder) if decoder.frame_ended => Ok(()),
            Self::Zstd(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        finished.map_err(|error| self.refusal(&error))?;
        let taken = match self {
            Self::Identity(sink) => Ok(sink),
            Self::Gzip(decoder) => decoder.finish(),
            Self::Zlib(decoder) => decoder.finish(),
            Self::Deflate(decoder) => decoder.finish(),
            Self::Zstd(decoder) => Ok(decoder.sink),
        };
        taken.map_err(|_| Refusal::Malformed("the compressed body is damaged"))
    }
}

/// zstd frames, one after another. The crate's writer does not tell a cut-off stream from a whole one.
struct Zstd {
    decoder: raw::Decoder<'static>,
    sink: Sink,
    buffer: Vec<u8>,
    frame_ended: bool,
}

impl Zstd {
    fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        let mut input = InBuffer::around(chunk);
        loop {
            if self.frame_ended && input.pos() < chunk.len() {
                self.decoder.reinit()?;
                self.frame_ended = false;
            }
            self.buffer.clear();
            let mut output = OutBuffer::around(&mut self.buffer);
            let hint = self.decoder.run(&mut input, &mut output)?;
            let full = output.pos() == output.capacity();
            self.sink.write_all(&self.buffer)?;
            self.frame_ended = hint == 0;
            // A full buffer may mean that more is waiting inside.
            if input.pos() == chunk.len() && (self.frame_ended || !full) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use flate2::{Compression, write as enc};
    use futures_util::stream;

    fn packed(coding: &str, text: &[u8]) -> Vec<u8> {
        match coding {
            "gzip" => {
                let mut e = enc::GzEncoder::new(Vec::new(), Compression::best());
                e.write_all(text).unwrap();
                e.finish().unwrap()
            }
            "zlib" => {
                let mut e = enc::ZlibEncoder::new(Vec::new(), Compression::fast());
                e.write_all(text).unwrap();
                e.finish().unwrap()
            }
            "raw" => {
                let mut e = enc::DeflateEncoder::new(Vec::new(), Compression::fast());
                e.write_all(text).unwrap();
                e.finish().unwrap()
            }
            "zstd" => zstd::encode_all(text, 3).unwrap(),
            _ => text.to_vec(),
        }
    }

    async fn decode(encoding: &str, wire: Vec<u8>, piece: usize) -> Result<Vec<u8>, Refusal> {
        let mut headers = HeaderMap::new();
        if !encoding.is_empty() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_str(encoding).unwrap());
        }
        let pieces: Vec<_> = wire.chunks(piece).map(|c| Ok::<_, io::Error>(Bytes::copy_from_slice(c))).collect();
        let budget = Arc::new(Budget::default());
        let read = read(&headers, Body::from_stream(stream::iter(pieces)), budget.share(1)).await;
        let bytes = read.map(|(bytes, _)| bytes.to_vec());
        assert_eq!(budget.0.lock().unwrap().all, 0, "everything is given back");
        bytes
    }

    #[tokio::test]
    async fn every_coding_is_read_in_any_pieces_and_over_several_members() {
        let text: Vec<u8> = (0..60_000u32).flat_map(|n| n.to_string().into_bytes()).collect();
        for (encoding, form) in
            [("", ""), ("gzip", "gzip"), ("X-GZIP", "gzip"), ("deflate", "zlib"), ("deflate", "raw"), ("zstd", "zstd")]
        {
            for piece in [7, 16_384, usize::MAX] {
                assert_eq!(decode(encoding, packed(form, &text), piece).await.as_deref(), Ok(&*text), "{form} {piece}");
            }
            assert_eq!(decode(encoding, Vec::new(), 1).await.as_deref(), Ok(b"".as_slice()));
        }
        for form in ["gzip", "zstd"] {
            let twice = [packed(form, b"one "), packed(form, b"two")].concat();
            assert_eq!(decode(form, twice, 5).await.as_deref(), Ok(b"one two".as_slice()));
        }
    }

    #[tokio::test]
    async fn what_is_cut_off_or_damaged_is_malformed() {
        let text = b"a text that is longer than the blocks of these formats need it to be, twice over".repeat(9);
        for (encoding, form) in [("gzip", "gzip"), ("deflate", "zlib"), ("zstd", "zstd")] {
            let wire = packed(form, &text);
            let cut = decode(encoding, wire[..wire.len() - 5].to_vec(), 11).await;
            assert!(matches!(cut, Err(Refusal::Malformed(_))), "{form}: {cut:?}");
            let junk = decode(encoding, b"certainly not compressed".to_vec(), 11).await;
            assert!(matches!(junk, Err(Refusal::Malformed(_))), "{form}: {junk:?}");
        }
    }

    #[tokio::test]
    async fn bombs_are_refused_while_they_are_read() {
        let zeros = vec![b' '; 12 << 20];
        for form in ["gzip", "zstd"] {
            let bomb = decode(form, packed(form, &zeros), 4_096).await;
            assert!(matches!(bomb, Err(Refusal::TooLarge(_))), "{form}: {bomb:?}");
            let nested = decode(form, packed(form, &packed("gzip", b"x")), 4_096).await;
            assert!(matches!(nested, Err(Refusal::TooLarge(_))), "{form}: {nested:?}");
        }
        assert!(matches!(decode("gzip, gzip", packed("gzip", b"x"), 99).await, Err(Refusal::TooLarge(_))));
        assert!(matches!(decode("", packed("gzip", b"x"), 99).await, Err(Refusal::TooLarge(_))));

        let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
        wide.window_log(27).unwrap();
        wide.write_all(&zeros).unwrap();
        assert_eq!(
            decode("zstd", wide.finish().unwrap(), 4_096).await,
            Err(Refusal::TooLarge("the zstd window is larger than 8 MiB"))
        );
    }

    #[tokio::test]
    async fn a_body_beyond_the_wire_limit_is_too_large() {
        assert!(matches!(decode("", vec![b' '; WIRE + 1], 1 << 20).await, Err(Refusal::TooLarge(_))));
        assert_eq!(decode("br", b"x".to_vec(), 1).await, Err(Refusal::UnsupportedEncoding));
    }

    #[test]
    fn all_requests_share_a_budget_and_a_token_may_not_take_it_whole() {
        let budget = Arc::new(Budget::default());
        let mut first = budget.share(1);
        first.grow(IN_FLIGHT_TOKEN).unwrap();
        assert_eq!(budget.share(1).grow(2 << 20), Err(Refusal::Quota));
        let mut second = budget.share(2);
        second.grow(IN_FLIGHT - IN_FLIGHT_TOKEN).unwrap();
        assert_eq!(budget.share(3).grow(1), Err(Refusal::Busy));
        drop(first);
        assert_eq!(budget.share(3).grow(1), Ok(()));
    }
}
