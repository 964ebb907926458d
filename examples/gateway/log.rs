//! The log, and what has to be told where there may be none yet.
//!
//! People read problems of the configuration as lines of their own; where the log is JSON, they are events like all others, for
//! its reader would take nothing else.

use std::sync::OnceLock;

use tower::BoxError;
use tracing_subscriber::EnvFilter;

use crate::clock::Clock;
use crate::config::Problems;
use crate::config::behaviour::{LogFormat, Telemetry};
use crate::fields::Fields;
use crate::output;

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Begins the log; it stays as it is until the process ends.
pub(crate) fn start(telemetry: &Telemetry) -> Result<(), BoxError> {
    let filter = EnvFilter::try_new(&telemetry.log).map_err(|error| format!("telemetry.log: {error}"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(output::Log)
        .with_timer(Clock)
        .log_internal_errors(false);
    match telemetry.log_format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.fmt_fields(Fields).init(),
    }
    let _ = FORMAT.set(telemetry.log_format);
    Ok(())
}

/// Tells why a file is not used.
pub(crate) fn refused(problems: &Problems) {
    if !is_json() {
        return output::complain(&problems.to_string());
    }
    for (key, problem) in problems.each() {
        tracing::error!(file = %problems.file.display(), key, problem, "a problem of the configuration");
    }
}

/// Tells what in a file that is used deserves a second look.
pub(crate) fn worth_a_look(problems: &Problems) {
    if !is_json() {
        return output::complain(&problems.to_string());
    }
    for (key, problem) in problems.each() {
        tracing::warn!(file = %problems.file.display(), key, problem, "a weakness of the configuration");
    }
}

/// Tells why the process ends.
pub(crate) fn failed(error: &BoxError) {
    if is_json() {
        tracing::error!(%error, "the gateway ends");
    } else {
        output::complain(&error.to_string());
    }
}

fn is_json() -> bool {
    FORMAT.get() == Some(&LogFormat::Json)
}
