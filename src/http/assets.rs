//! Files of `static/`, in the binary: `/static/<hash>/<name>`, immutable, precompressed.

use crate::http::error::Error;
use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::{fmt::Write as _, io::Write as _, sync::LazyLock};

struct File {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($name:literal $kind:literal $path:literal;)*) => {
        const FILES: &[File] = &[$(File {
            name: $name, kind: $kind, bytes: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/static/", $path)),
        }),*];
    };
}

files! {
    "app.css" "text/css; charset=utf-8" "app.css";
    "app.js" "text/javascript; charset=utf-8" "app.js";
    "tt.js" "text/javascript; charset=utf-8" "tt.js";
    "logo.svg" "image/svg+xml" "logo.svg";
    "lanes.js" "text/javascript; charset=utf-8" "lanes.js";
    "uplot.js" "text/javascript; charset=utf-8" "vendor/uplot-1.6.32/uPlot.iife.min.js";
    "uplot.css" "text/css; charset=utf-8" "vendor/uplot-1.6.32/uPlot.min.css";
    "htmx.js" "text/javascript; charset=utf-8" "vendor/htmx-2.0.11/htmx.min.js";
}

/// Changes when any file does.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for file in FILES {
        hash.update(file.bytes);
    }
    hash.finalize().iter().take(6).fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing to a string");
        out
    })
});

static GZIP: LazyLock<Vec<Option<Vec<u8>>>> = LazyLock::new(|| {
    let pack = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).ok()
    };
    FILES.iter().map(|f| pack(f.bytes)).collect()
});

/// Address of a file.
pub fn url(name: &str) -> String {
    format!("/static/{}/{name}", *VERSION)
}

/// `GET /static/{version}/{name}`. A file of another version is not served: what is cached for ever must be what it was.
pub async fn file(headers: HeaderMap, request: Request) -> Response {
    let path = request.uri().path();
    let Some(index) = FILES.iter().position(|f| path == url(f.name)) else {
        return Error::NotFound.into_response();
    };
    let file = &FILES[index];
    let accepts = headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("gzip"));
    let packed = GZIP.get(index).and_then(Option::as_deref).filter(|_| accepts);
    let mut response = packed.unwrap_or(file.bytes).into_response();
    let set = response.headers_mut();
    set.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    set.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    set.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if packed.is_some() {
        set.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendored_files_are_what_vendor_toml_says() {
        let listed = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/static/VENDOR.toml"));
        for file in FILES.iter().filter(|f| ["htmx.js", "uplot.js", "uplot.css"].contains(&f.name)) {
            let digest = Sha256::digest(file.bytes).iter().fold(String::new(), |out, b| format!("{out}{b:02x}"));
            assert!(listed.contains(&digest), "{} is not the listed file", file.name);
        }
    }

    #[test]
    fn own_scripts_and_styles_stay_small() {
        for (name, most) in [("app.css", 12_000), ("app.js", 6_000), ("lanes.js", 2_000), ("tt.js", 200)] {
            let index = FILES.iter().position(|f| f.name == name).unwrap();
            let packed = GZIP[index].as_ref().unwrap().len();
            assert!(packed <= most, "{name}: {packed} bytes");
        }
    }
}
