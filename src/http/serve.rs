//! A listener that slow and greedy clients cannot hold: deadlines for headers and replies, a limit on connections. Both ports use
//! it. Numbers: trust design, section 9.
//!
//! HTTP/1.1 only: without TLS no browser asks for more, and it shuts the door on HTTP/2 floods.

use axum::Router;
use axum_server::{Handle, accept::Accept};
use hyper_util::rt::TokioTimer;
use std::{
    collections::HashMap,
    future::{Ready, ready},
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

/// Longest wait for the headers of a request, the idle time between two requests included.
const HEADERS: Duration = Duration::from_secs(30);
/// Longest wait for a client to take the next bytes of a reply.
const WRITE: Duration = Duration::from_secs(30);
/// Largest head of a request, in bytes.
const HEAD: usize = 32 * 1024;
/// Most connections of one listener.
const CONNECTIONS: usize = 4_096;
/// Most connections of one address.
const PER_ADDRESS: usize = 256;
/// How long requests in flight may take once the listener is told to stop. Source: architecture, section 11.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until `stop` is cancelled, then lets requests in flight finish.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let server = listener.set_nonblocking(true).and_then(|()| axum_server::from_tcp(listener));
    let mut server = match server {
        Ok(server) => server.acceptor(Gate::default()).http1_only(),
        Err(error) => {
            tracing::error!(%error, "the listener cannot be used");
            return stop.cancel();
        }
    };
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(HEAD);
    let handle = Handle::new();
    let mut running =
        pin!(server.handle(handle.clone()).serve(router.into_make_service_with_connect_info::<SocketAddr>()));
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = stop.cancelled() => {
            handle.graceful_shutdown(Some(GRACE));
            running.await
        }
    };
    if let Err(error) = ended {
        tracing::error!(%error, "a listener ended");
        stop.cancel();
    }
}

/// Counts connections and closes those beyond the limit.
#[derive(Debug, Clone, Default)]
struct Gate(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Gate {
    fn enter(&self, address: IpAddr) -> io::Result<Pass> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = counts.by_address.get(&address).copied().unwrap_or(0);
        if counts.all >= CONNECTIONS || here >= PER_ADDRESS {
            return Err(io::Error::other("too many connections"));
        }
        counts.all += 1;
        counts.by_address.insert(address, here + 1);
        Ok(Pass { gate: self.clone(), address })
    }
}

/// One counted connection.
#[derive(Debug)]
struct Pass {
    gate: Gate,
    address: IpAddr,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.gate.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        match counts.by_address.get_mut(&self.address) {
            Some(here) if *here > 1 => *here -= 1,
            _ => drop(counts.by_address.remove(&self.address)),
        }
    }
}

impl<S> Accept<TcpStream, S> for Gate {
    type Stream = Guarded<TcpStream>;
    type Service = S;
    type Future = Ready<io::Result<(Self::Stream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let admitted = stream.peer_addr().and_then(|peer| self.enter(peer.ip().to_canonical()));
        ready(admitted.and_then(|pass| {
            stream.set_nodelay(true)?;
            Ok((Guarded { stream, deadline: None, _pass: pass }, service))
        }))
    }
}

/// A connection whose client must take what is written to it.
#[derive(Debug)]
struct Guarded<S> {
    stream: S,
    /// Set while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
    _pass: Pass,
}

impl<S> Guarded<S> {
    fn watch<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(WRITE)));
        deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.watch(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_util::task::TaskTracker;

    #[test]
    fn an_address_may_hold_so_many_connections_and_gets_them_back() {
        let gate = Gate::default();
        let one = IpAddr::from([192, 0, 2, 1]);
        let held: Vec<Pass> = (0..PER_ADDRESS).map(|_| gate.enter(one).unwrap()).collect();
        assert!(gate.enter(one).is_err());
        assert!(gate.enter(IpAddr::from([192, 0, 2, 2])).is_ok());
        drop(held);
        assert!(gate.enter(one).is_ok());
        assert_eq!(gate.0.lock().unwrap().all, 0);
    }

    #[tokio::test]
    async fn it_answers_and_stops_when_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(serve(listener, Router::new().route("/", get(|| async { "here" })), stop.clone()));

        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x.example\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with("here"), "{reply}");

        stop.cancel();
        tasks.close();
        tokio::time::timeout(GRACE * 2, tasks.wait()).await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
