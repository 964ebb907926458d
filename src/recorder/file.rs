//! The file of a recording.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::recording::{RecordedCircuit, RecordedTarget};
use super::slot::SLOT;

const MAGIC: &[u8; 8] = b"aoai-rec";
const VERSION: u16 = 1;
const CHECKSUM: usize = 32;

/// Header before the events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Beginning of the recording, in milliseconds since 1970.
    pub(super) began_ms: u64,
    /// Time at which it was taken, in microseconds since it began.
    pub(super) taken_us: u64,
    /// The version of the crate that wrote it.
    pub(super) written_by: String,
    /// The name of the policy that chose, as the configuration has it.
    pub(super) policy: Option<String>,
    /// Configuration of the circuits.
    pub(super) circuit: RecordedCircuit,
    /// All that there were since it began.
    pub(super) targets: Vec<RecordedTarget>,
}

/// Reason why a file cannot be read as a recording.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadRecordingError {
    /// It is something else.
    #[error("this is no recording: it does not begin with `aoai-rec`")]
    Foreign,
    /// It was written by another version of this crate.
    #[error("the recording is of format {found}, and only format {VERSION} can be read here")]
    Version {
        /// The format of the file.
        found: u16,
    },
    /// Something is missing at its end.
    #[error("the recording is cut off after {bytes} bytes")]
    CutOff {
        /// Length of it.
        bytes: usize,
    },
    /// Its bytes are not those that were written.
    #[error("the recording is damaged: its checksum is wrong")]
    Checksum,
    /// It is whole, and yet says what cannot be.
    #[error("the recording is not well formed: {what}")]
    Malformed {
        /// Fault, and its place.
        what: String,
    },
}

pub(super) fn write(header: &Header, events: &[[u8; SLOT]]) -> Vec<u8> {
    let header = serde_json::to_vec(header).unwrap_or_default();
    let mut file = Vec::with_capacity(MAGIC.len() + 10 + header.len() + events.len() * SLOT + CHECKSUM);
    file.extend(MAGIC);
    file.extend(VERSION.to_le_bytes());
    file.extend((header.len() as u32).to_le_bytes());
    file.extend(header);
    file.extend((events.len() as u32).to_le_bytes());
    file.extend(events.as_flattened());
    let checksum = Sha256::digest(&file);
    file.extend(checksum);
    file
}

pub(super) fn read(file: &[u8]) -> Result<(Header, Vec<[u8; SLOT]>), ReadRecordingError> {
    let mut at = 0;
    if take(file, &mut at, MAGIC.len()).ok() != Some(&MAGIC[..]) {
        return Err(ReadRecordingError::Foreign);
    }
    let found = u16::from_le_bytes(number(file, &mut at)?);
    if found != VERSION {
        return Err(ReadRecordingError::Version { found });
    }
    let length = u32::from_le_bytes(number(file, &mut at)?) as usize;
    let header = take(file, &mut at, length)?;
    let count = u32::from_le_bytes(number(file, &mut at)?) as usize;
    let events = take(file, &mut at, count.saturating_mul(SLOT))?;
    let written = file.get(..at).unwrap_or_default();
    let checksum = take(file, &mut at, CHECKSUM)?;
    if Sha256::digest(written)[..] != *checksum {
        return Err(ReadRecordingError::Checksum);
    }
    if at != file.len() {
        return Err(ReadRecordingError::Malformed { what: format!("{} bytes follow its end", file.len() - at) });
    }
    let header = serde_json::from_slice(header)
        .map_err(|error| ReadRecordingError::Malformed { what: format!("its header: {error}") })?;
    let (events, _) = events.as_chunks::<SLOT>();
    Ok((header, events.to_vec()))
}

fn take<'a>(file: &'a [u8], at: &mut usize, length: usize) -> Result<&'a [u8], ReadRecordingError> {
    let range: Range<usize> = *at..at.saturating_add(length);
    let taken = file.get(range.clone()).ok_or(ReadRecordingError::CutOff { bytes: file.len() })?;
    *at = range.end;
    Ok(taken)
}

fn number<const N: usize>(file: &[u8], at: &mut usize) -> Result<[u8; N], ReadRecordingError> {
    let taken = take(file, at, N)?;
    taken.try_into().map_err(|_| ReadRecordingError::CutOff { bytes: file.len() })
}
