//! Going on both ways.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// Time for which one side may go on after the other one has ended: 10 s.
pub(crate) const CLOSING_TIME: Duration = Duration::from_secs(10);

/// Both ways until they have ended: 10 s after the first of them, or at once when one breaks.
pub(super) async fn both<U, D, E>(up: Pin<&mut U>, down: Pin<&mut D>) -> Result<(), E>
where
    U: Future<Output = Result<(), E>>,
    D: Future<Output = Result<(), E>>,
{
    let mut both = Both { up: Some(up), down: Some(down), closing: None };
    poll_fn(|cx| both.poll(cx)).await
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
    use std::future::{pending, ready};
    use std::pin::pin;

    use tokio::time::Instant;

    use super::*;

    async fn long() -> Result<(), ()> {
        sleep(CLOSING_TIME * 9).await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_does_not_end_has_some_time() {
        let start = Instant::now();
        both(pin!(ready(Ok::<_, ()>(()))), pin!(pending())).await.unwrap();
        assert_eq!(start.elapsed(), CLOSING_TIME);
        both(pin!(long()), pin!(long())).await.unwrap();
        assert_eq!(start.elapsed(), CLOSING_TIME * 10, "no clock runs while both go on");
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_breaks_ends_both_at_once() {
        let start = Instant::now();
        assert_eq!(both(pin!(pending()), pin!(ready(Err(7)))).await, Err(7));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
