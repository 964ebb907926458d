//! Turns of connections, by what they read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::poll_proceed;

use super::TURN;
use crate::writes_through::writes_through;

/// Parts of tokio's budget for one turn of a task.
const BUDGET: usize = 128;
/// Bytes for one part of it.
const PART: usize = TURN / BUDGET;

/// A connection that reads at most 512 KiB before it is the turn of others.
///
/// tokio counts reads alone. With hyper's buffers of 400 KiB, a turn of a backend that talks faster than it is understood would last
/// for seconds, in which nothing else of the thread happens and no clock runs.
#[derive(Debug)]
pub(super) struct Paced(TcpStream);

impl Paced {
    pub(super) fn new(connection: TokioIo<TcpStream>) -> TokioIo<Self> {
        TokioIo::new(Self(connection.into_inner()))
    }
}

impl Connection for Paced {
    fn connected(&self) -> Connected {
        self.0.connected()
    }
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, buf))?;
        for _ in 0..(buf.filled().len() - before) / PART {
            match poll_proceed(cx) {
                Poll::Ready(part) => part.made_progress(),
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

writes_through!([] AsyncWrite for Paced => 0);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;

    use super::*;

    /// Bytes that are read in one turn from a peer that has written as many as its socket takes.
    async fn read_in_one_turn(buffer: usize) -> usize {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut far = listener.accept().unwrap().0;
        far.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(more) = far.write(&[0; 1 << 16]) {
            written += more;
        }
        assert!(written > 2 * TURN, "{written}");
        near.readable().await.unwrap();
        let (mut paced, mut buffer, mut read) = (Paced(near), vec![0; buffer], 0);
        tokio::task::yield_now().await;
        poll_fn(move |cx| {
            let mut into = ReadBuf::new(&mut buffer);
            while Pin::new(&mut paced).poll_read(cx, &mut into).is_ready() {
                read += into.filled().len();
                into.clear();
            }
            Poll::Ready(read)
        })
        .await
    }

    #[tokio::test]
    async fn a_turn_has_an_end_however_much_there_is_to_read() {
        for buffer in [PART, 3 * PART + 1, 400 << 10] {
            let read = read_in_one_turn(buffer).await;
            assert!(read <= TURN + buffer, "{read} bytes with a buffer of {buffer}");
        }
    }
}
