//! Requests through the whole stack, to be counted by an instruction counter. The gate counts those of the whole gateway
//! (`.ci/instructions`); this shows what the layers alone take.
//!
//! `instructions KIND NUMBER` sends so many: `classic` and `v1` whole answers, `stream` one answer with so many chunks.
//!
//! ```console
//! valgrind --tool=callgrind target/release/deps/instructions-… classic 1000
//! ```

mod common;

use tower::BoxError;
use tower_azure_openai::azure::operation::Surface;

fn main() -> Result<(), BoxError> {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let kind = args.next().unwrap_or_else(|| "classic".to_owned());
    let number: usize = args.next().map_or(Ok(1000), |number| number.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let _entered = runtime.enter();
    match kind.as_str() {
        "classic" => whole(Surface::Classic, number),
        "v1" => whole(Surface::V1, number),
        "stream" => streamed(number),
        _ => Err(format!("{kind}: classic, v1 or stream").into()),
    }
}

fn whole(surface: Surface, number: usize) -> Result<(), BoxError> {
    let (mut gateway, request) = (common::gateway(common::NoOp)?, common::request(surface)?);
    for _ in 0..number {
        common::drive(&mut gateway, request.clone());
    }
    Ok(())
}

fn streamed(chunks: usize) -> Result<(), BoxError> {
    let mut gateway = common::gateway(common::Streaming { chunks })?;
    common::drive(&mut gateway, common::streamed_request()?);
    Ok(())
}
