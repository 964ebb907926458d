//! A connection, direct or through a proxy.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;

use super::pace::Paced;
use crate::writes_through::writes_through;

/// Connection to the destination, or to a proxy that is told with every request where it goes.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) io: MaybeHttpsStream<TokioIo<Paced>>,
    /// The proxy wants whole URLs (RFC 9112 §3.2.2).
    pub(super) needs_whole_urls: bool,
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.needs_whole_urls)
    }
}

impl Read for Link {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

writes_through!([] Write for Link => io);
