//! Memory of sockets for messages that have not gone on yet, charged to the client that they were opened by.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error as SocketError;

use super::socket::{BUFFER, LONGEST_ANSWER};
use crate::account::{Account, Reservation};
use crate::context::{Client, Observation};
use crate::writes_through::writes_through;

/// The client that pays for the sockets of one handshake. Without an [`Observation`] nobody is known, and all such are one client.
#[derive(Clone, Debug)]
pub(super) struct Payer {
    pub(super) account: Account,
    pub(super) observation: Observation,
}

/// Bytes that have come from one side and not gone on to the other. Clones are about the same side.
#[derive(Clone, Debug)]
pub(super) struct Held(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    payer: Payer,
    bytes: usize,
    /// `None` up to the size that every socket has room for.
    paid: Option<Reservation>,
}

/// Share of the held bytes that goes with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    All,
    /// A control frame may stand in the middle of a message (RFC 6455 §5.4), which is held all the same.
    Control(usize),
}

impl Part {
    pub(super) fn of(message: &Message) -> Self {
        match message {
            Message::Text(_) | Message::Binary(_) | Message::Close(_) => Self::All,
            Message::Ping(said) | Message::Pong(said) => Self::Control(said.len()),
            Message::Frame(frame) => Self::Control(frame.payload().len()),
        }
    }
}

impl Held {
    pub(super) fn new(payer: Payer) -> Self {
        Self(Arc::new(Mutex::new(State { payer, bytes: 0, paid: None })))
    }

    /// Notes that a message has gone on, or is paid for elsewhere.
    pub(super) fn gone(&self, part: Part) {
        let mut state = self.lock();
        match part {
            Part::All => (state.bytes, state.paid) = (0, None),
            Part::Control(bytes) => state.bytes = state.bytes.saturating_sub(bytes),
        }
    }

    /// Notes what has arrived, if there is room for it.
    fn arrived(&self, bytes: usize) -> Result<(), NoRoom> {
        let mut state = self.lock();
        state.bytes += bytes;
        let State { payer, bytes, paid } = &mut *state;
        if *bytes <= BUFFER {
            return Ok(());
        }
        let open = || payer.account.open(payer.observation.client().map(Client::id));
        let covers = paid.get_or_insert_with(open).cover_ahead(*bytes, LONGEST_ANSWER);
        if covers { Ok(()) } else { Err(NoRoom) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The account has no room for what a side says.
#[derive(Debug, thiserror::Error)]
#[error("there is no room for more of a message")]
pub(super) struct NoRoom;

impl NoRoom {
    pub(super) fn is(error: &SocketError) -> bool {
        let SocketError::Io(error) = error else { return false };
        error.get_ref().is_some_and(|error| (error as &(dyn StdError + 'static)).is::<Self>())
    }
}

/// A connection whose reader holds no more than is paid for.
#[derive(Debug)]
pub(super) struct Charged {
    io: TokioIo<Upgraded>,
    held: Held,
}

impl Charged {
    pub(super) fn new(io: Upgraded, payer: &Payer) -> Self {
        Self { io: TokioIo::new(io), held: Held::new(payer.clone()) }
    }

    pub(super) fn held(&self) -> Held {
        self.held.clone()
    }
}

impl AsyncRead for Charged {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, into))?;
        Poll::Ready(self.held.arrived(into.filled().len() - before).map_err(io::Error::other))
    }
}

writes_through!([] AsyncWrite for Charged => io);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held(account: &Account) -> Held {
        Held::new(Payer { account: account.clone(), observation: Observation::new() })
    }

    #[test]
    fn what_a_socket_has_room_for_costs_nothing() {
        let account = Account::new(1 << 20);
        let held = held(&account);
        held.arrived(BUFFER).unwrap();
        assert_eq!(account.in_use(), 0);
        held.arrived(1).unwrap();
        assert_eq!(account.in_use(), BUFFER + 1);
        held.gone(Part::All);
        assert_eq!(account.in_use(), 0);
    }

    #[test]
    fn a_control_frame_takes_itself_only() {
        let account = Account::new(1 << 20);
        let held = held(&account);
        held.arrived(300_000).unwrap();
        for _ in 0..1000 {
            held.arrived(125).unwrap();
            held.gone(Part::Control(125));
        }
        assert!(account.in_use() >= 300_000);
        held.arrived(300_000).unwrap_err();
        drop(held);
        assert_eq!(account.in_use(), 0);
    }

    proptest! {
        #[test]
        fn is_paid_for_or_refused(steps in proptest::collection::vec((0_usize..2, 0_usize..2, 0_usize..100_000), 0..60)) {
            let account = Account::new(400_000);
            let sides = [held(&account), held(&account)];
            let mut bytes = [0, 0];
            for (which, op, amount) in steps {
                let side = &sides[which];
                let is_refused = op == 0 && side.arrived(amount).is_err();
                bytes[which] = if op == 0 { bytes[which] + amount } else { 0 };
                if op == 1 || is_refused {
                    side.gone(Part::All);
                    bytes[which] = 0;
                }
                let owed: usize = bytes.iter().filter(|bytes| **bytes > BUFFER).sum();
                prop_assert!(account.in_use() >= owed && account.in_use() <= 200_000, "{bytes:?} {}", account.in_use());
            }
        }
    }
}
