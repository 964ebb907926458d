//! Carrying bytes both ways.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::Body as _;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::time::{Sleep, sleep};
use tower::BoxError;

use super::connections::Open;
use crate::body::Body;
use crate::error::Chain;

/// How long one side may go on after the other one has ended: 10 s.
pub const CLOSING_TIME: Duration = Duration::from_secs(10);

/// Carries a connection until it ends; `body` is what its guards hang on.
pub(super) async fn run(client: OnUpgrade, backend: OnUpgrade, mut body: Body, open: Open) {
    match connect(client, backend).await {
        Ok(()) => drop(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await),
        Err(error) => tracing::debug!(error = %Chain(error.as_ref()), "websocket"),
    }
    // Whoever waits for the end of the connections finds nothing in flight any more.
    drop(body);
    drop(open);
}

async fn connect(client: OnUpgrade, backend: OnUpgrade) -> Result<(), BoxError> {
    let (client, backend) = (client.await?, backend.await?);
    Ok(carry(TokioIo::new(client), TokioIo::new(backend)).await?)
}

async fn carry(client: TokioIo<Upgraded>, backend: TokioIo<Upgraded>) -> io::Result<()> {
    let ((from_client, to_client), (from_backend, to_backend)) = (split(client), split(backend));
    let mut both = Both {
        up: Some(pin!(one_way(from_client, to_backend))),
        down: Some(pin!(one_way(from_backend, to_client))),
        closing: None,
    };
    poll_fn(|cx| both.poll(cx)).await
}

/// What comes in on one side goes out on the other, the end of it too. Flushes whenever there is nothing more to read yet.
async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    copy(&mut from, &mut to).await?;
    // A side that cannot be told any more has ended as well.
    drop(to.shutdown().await);
    Ok(())
}

/// Both ways, each until it has ended.
struct Both<'a, U, D> {
    up: Option<Pin<&'a mut U>>,
    down: Option<Pin<&'a mut D>>,
    /// Runs once one of them has.
    closing: Option<Pin<Box<Sleep>>>,
}

impl<U, D> Both<'_, U, D>
where
    U: Future<Output = io::Result<()>>,
    D: Future<Output = io::Result<()>>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_way(&mut self.up, cx)?;
        poll_way(&mut self.down, cx)?;
        if self.up.is_some() && self.down.is_some() {
            return Poll::Pending;
        }
        if self.up.is_none() && self.down.is_none() {
            return Poll::Ready(Ok(()));
        }
        self.closing.get_or_insert_with(|| Box::pin(sleep(CLOSING_TIME))).as_mut().poll(cx).map(Ok)
    }
}

fn poll_way<F>(way: &mut Option<Pin<&mut F>>, cx: &mut Context<'_>) -> io::Result<()>
where
    F: Future<Output = io::Result<()>>,
{
    if let Some(Poll::Ready(ended)) = way.as_mut().map(|running| running.as_mut().poll(cx)) {
        *way = None;
        ended?;
    }
    Ok(())
}
