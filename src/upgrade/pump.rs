//! Carrying bytes both ways.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
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

async fn carry<C, B>(client: C, backend: B) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let ((from_client, to_client), (from_backend, to_backend)) = (split(client), split(backend));
    both(pin!(one_way(from_client, to_backend)), pin!(one_way(from_backend, to_client))).await
}

/// Both ways until they have ended: [`CLOSING_TIME`] after the first of them, or at once when one breaks.
pub(super) async fn both<U, D, E>(up: Pin<&mut U>, down: Pin<&mut D>) -> Result<(), E>
where
    U: Future<Output = Result<(), E>>,
    D: Future<Output = Result<(), E>>,
{
    let mut both = Both { up: Some(up), down: Some(down), closing: None };
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

impl<U, D> Both<'_, U, D> {
    fn poll<E>(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>>
    where
        U: Future<Output = Result<(), E>>,
        D: Future<Output = Result<(), E>>,
    {
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

fn poll_way<F, E>(way: &mut Option<Pin<&mut F>>, cx: &mut Context<'_>) -> Result<(), E>
where
    F: Future<Output = Result<(), E>>,
{
    if let Some(Poll::Ready(ended)) = way.as_mut().map(|running| running.as_mut().poll(cx)) {
        *way = None;
        ended?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    const BUFFER: usize = 1_000;

    /// A client and a backend, and what carries bytes between them.
    fn connected() -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<io::Result<()>>) {
        let ((client, front), (back, backend)) = (duplex(BUFFER), duplex(BUFFER));
        (client, backend, tokio::spawn(carry(front, back)))
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_the_end_arrives_before_it() {
        for client_first in [true, false] {
            let (client, backend, carried) = connected();
            let (mut first, mut second) = if client_first { (client, backend) } else { (backend, client) };
            first.write_all(b"last words").await.unwrap();
            first.shutdown().await.unwrap();
            let mut heard = String::new();
            second.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "last words");
            second.write_all(b"good bye").await.unwrap();
            drop(second);
            heard.clear();
            first.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "good bye", "the other way stays open for an answer");
            carried.await.unwrap().unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_does_not_end_has_some_time() {
        let (mut client, mut backend, carried) = connected();
        let start = Instant::now();
        client.shutdown().await.unwrap();
        assert_eq!(backend.read(&mut [0]).await.unwrap(), 0);
        carried.await.unwrap().unwrap();
        assert_eq!(start.elapsed(), CLOSING_TIME);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_silent_stands() {
        let (mut client, mut backend, carried) = connected();
        sleep(Duration::from_secs(24 * 3_600)).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(backend.read_u8().await.unwrap(), b'x');
        assert!(!carried.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_does_not_read_holds_the_other_one_up() {
        let (mut client, mut backend, _carried) = connected();
        let mut sent = 0;
        while tokio::time::timeout(Duration::from_secs(1), client.write_all(&[7; 100])).await.is_ok() {
            sent += 100;
        }
        assert!((2 * BUFFER..2 * BUFFER + 9 * 1024).contains(&sent), "{sent}");
        let mut heard = vec![0; sent];
        backend.read_exact(&mut heard).await.unwrap();
        assert!(heard.iter().all(|byte| *byte == 7));
    }
}
