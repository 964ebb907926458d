//! Events as 64 bytes. Numbers of the format never change their meaning; new ones get new values.

use std::time::Duration;

use http::StatusCode;

use super::event::{Action, Attempted, CircuitChange, Event, Requested};
use crate::azure::outcome::{Outcome, Phase};
use crate::context::Ending;

pub(super) const SLOT: usize = 64;

const ACTION: u8 = 1;
const ATTEMPT: u8 = 2;
const CIRCUIT: u8 = 3;
const REQUEST: u8 = 4;

/// Stands for a number that is not there.
const NONE: u32 = u32::MAX;
const STREAMED: u8 = 1;
const THROTTLED: u8 = 1;
const HALF_OPEN: u8 = 2;

impl Event {
    pub(super) fn to_slot(self) -> [u8; SLOT] {
        let mut slot = Writer::default();
        match self {
            Self::Action { at, action } => {
                slot.u8(ACTION);
                slot.time(at);
                action.write(&mut slot);
            }
            Self::Attempt(attempted) => {
                slot.u8(ATTEMPT);
                attempted.write(&mut slot);
            }
            Self::Circuit(change) => {
                slot.u8(CIRCUIT);
                change.write(&mut slot);
            }
            Self::Request(requested) => {
                slot.u8(REQUEST);
                requested.write(&mut slot);
            }
        }
        slot.bytes
    }

    /// `None` for what this version does not write.
    pub(super) fn from_slot(slot: &[u8; SLOT]) -> Option<Self> {
        let mut slot = Reader { rest: slot };
        Some(match slot.u8()? {
            ACTION => Self::Action { at: slot.time()?, action: Action::read(&mut slot)? },
            ATTEMPT => Self::Attempt(Attempted::read(&mut slot)?),
            CIRCUIT => Self::Circuit(CircuitChange::read(&mut slot)?),
            REQUEST => Self::Request(Requested::read(&mut slot)?),
            _ => return None,
        })
    }
}

impl Requested {
    fn write(&self, slot: &mut Writer) {
        slot.u32(self.number);
        slot.time(self.at);
        slot.u64(self.client);
        slot.u64(self.alias);
        slot.u8(self.operation);
        slot.u8(if self.is_streamed { STREAMED } else { 0 });
        slot.u8(self.attempts);
        slot.u8(ending(self.ending));
        slot.u16(self.status.map_or(0, |status| status.as_u16()));
        slot.u32(self.bytes);
        slot.u32(self.max_tokens.unwrap_or(NONE));
        slot.micros(self.first_content);
        slot.micros(Some(self.total));
        let (input, output) = self.tokens.unwrap_or((NONE, NONE));
        slot.u32(input);
        slot.u32(output);
    }

    fn read(slot: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            number: slot.u32()?,
            at: slot.time()?,
            client: slot.u64()?,
            alias: slot.u64()?,
            operation: slot.u8()?,
            is_streamed: slot.u8()? == STREAMED,
            attempts: slot.u8()?,
            ending: to_ending(slot.u8()?)?,
            status: slot.status()?,
            bytes: slot.u32()?,
            max_tokens: slot.option()?,
            first_content: slot.micros()?,
            total: slot.micros()??,
            tokens: slot.option()?.zip(slot.option()?),
        })
    }
}

impl Attempted {
    fn write(&self, slot: &mut Writer) {
        slot.u32(self.number);
        slot.time(self.at);
        slot.u64(self.target);
        let (code, status) = self.outcome.map_or((0, None), |outcome| (code(outcome), status(outcome)));
        slot.u8(code);
        slot.u16(status.map_or(0, |status| status.as_u16()));
        slot.micros(self.outcome.and_then(|outcome| outcome.hint()));
        slot.micros(Some(self.duration));
    }

    fn read(slot: &mut Reader<'_>) -> Option<Self> {
        let (number, at, target) = (slot.u32()?, slot.time()?, slot.u64()?);
        let (code, status, hint) = (slot.u8()?, slot.status()?, slot.micros()?);
        let outcome = if code == 0 { None } else { Some(to_outcome(code, status, hint)?) };
        Some(Self { number, at, target, outcome, duration: slot.micros()?? })
    }
}

impl CircuitChange {
    fn write(&self, slot: &mut Writer) {
        slot.time(self.at);
        slot.u64(self.target);
        slot.micros(self.opened);
        slot.u8(if self.is_throttled { THROTTLED } else { 0 } | if self.is_half_open { HALF_OPEN } else { 0 });
    }

    fn read(slot: &mut Reader<'_>) -> Option<Self> {
        let (at, target, opened, flags) = (slot.time()?, slot.u64()?, slot.micros()?, slot.u8()?);
        Some(Self { at, target, opened, is_throttled: flags & THROTTLED != 0, is_half_open: flags & HALF_OPEN != 0 })
    }
}

impl Action {
    fn write(self, slot: &mut Writer) {
        let (kind, on, number) = match self {
            Self::Drain(is_drained) => (1, 0, u32::from(is_drained)),
            Self::DrainBackend { backend, is_drained } => (2, backend, u32::from(is_drained)),
            Self::Weigh { backend, weight } => (3, backend, weight),
            Self::CloseCircuit { target } => (4, target, 0),
            Self::Configure { fingerprint } => (5, fingerprint, 0),
        };
        slot.u8(kind);
        slot.u64(on);
        slot.u32(number);
    }

    fn read(slot: &mut Reader<'_>) -> Option<Self> {
        let (kind, on, number) = (slot.u8()?, slot.u64()?, slot.u32()?);
        Some(match kind {
            1 => Self::Drain(number != 0),
            2 => Self::DrainBackend { backend: on, is_drained: number != 0 },
            3 => Self::Weigh { backend: on, weight: number },
            4 => Self::CloseCircuit { target: on },
            5 => Self::Configure { fingerprint: on },
            _ => return None,
        })
    }
}

const fn ending(ending: Ending) -> u8 {
    match ending {
        Ending::Broken => 1,
        Ending::Failed => 2,
        Ending::Left => 3,
        Ending::Upgraded => 4,
        Ending::Whole => 5,
    }
}

const fn to_ending(code: u8) -> Option<Ending> {
    Some(match code {
        1 => Ending::Broken,
        2 => Ending::Failed,
        3 => Ending::Left,
        4 => Ending::Upgraded,
        5 => Ending::Whole,
        _ => return None,
    })
}

const fn code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Abandoned => 1,
        Outcome::ClientFault => 2,
        Outcome::Conflict { .. } => 3,
        Outcome::ContentUnreadable => 4,
        Outcome::CredentialRefused { .. } => 5,
        Outcome::CredentialUnavailable => 6,
        Outcome::DependencyFailed => 7,
        Outcome::DeploymentMissing => 8,
        Outcome::Reset => 9,
        Outcome::ServerFailed { .. } => 10,
        Outcome::Success => 11,
        Outcome::Throttled { .. } => 12,
        Outcome::TimedOut(Phase::Answer) => 13,
        Outcome::TimedOut(Phase::FirstByte) => 14,
        Outcome::TimedOut(Phase::Idle) => 15,
        Outcome::Unfinished => 16,
        Outcome::Unknown => 17,
        Outcome::Unreachable => 18,
    }
}

fn to_outcome(code: u8, status: Option<StatusCode>, hint: Option<Duration>) -> Option<Outcome> {
    Some(match code {
        1 => Outcome::Abandoned,
        2 => Outcome::ClientFault,
        3 => Outcome::Conflict { hint },
        4 => Outcome::ContentUnreadable,
        5 => Outcome::CredentialRefused { status: status? },
        6 => Outcome::CredentialUnavailable,
        7 => Outcome::DependencyFailed,
        8 => Outcome::DeploymentMissing,
        9 => Outcome::Reset,
        10 => Outcome::ServerFailed { status: status?, hint },
        11 => Outcome::Success,
        12 => Outcome::Throttled { hint },
        13 => Outcome::TimedOut(Phase::Answer),
        14 => Outcome::TimedOut(Phase::FirstByte),
        15 => Outcome::TimedOut(Phase::Idle),
        16 => Outcome::Unfinished,
        17 => Outcome::Unknown,
        18 => Outcome::Unreachable,
        _ => return None,
    })
}

const fn status(outcome: Outcome) -> Option<StatusCode> {
    match outcome {
        Outcome::CredentialRefused { status } | Outcome::ServerFailed { status, .. } => Some(status),
        _ => None,
    }
}

struct Writer {
    bytes: [u8; SLOT],
    at: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Self { bytes: [0; SLOT], at: 0 }
    }
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        // The largest event has 63 bytes.
        let end = self.at + bytes.len();
        self.bytes[self.at..end].copy_from_slice(bytes);
        self.at = end;
    }

    fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    /// Microseconds, for some 580,000 years.
    fn time(&mut self, time: Duration) {
        self.u64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Microseconds, for up to 71 minutes; what is longer is told as that.
    fn micros(&mut self, time: Option<Duration>) {
        let longest = NONE - 1;
        self.u32(time.map_or(NONE, |time| u32::try_from(time.as_micros()).unwrap_or(longest).min(longest)));
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Option<Duration> {
        self.u64().map(Duration::from_micros)
    }

    fn option(&mut self) -> Option<Option<u32>> {
        self.u32().map(|number| (number != NONE).then_some(number))
    }

    fn micros(&mut self) -> Option<Option<Duration>> {
        Some(self.option()?.map(|micros| Duration::from_micros(micros.into())))
    }

    fn status(&mut self) -> Option<Option<StatusCode>> {
        match self.u16()? {
            0 => Some(None),
            code => StatusCode::from_u16(code).ok().map(Some),
        }
    }
}
