//! Calls the transport again while that can help and nobody wants to stop.

use std::thread;
use std::time::Duration;

use crate::tally::{Busy, Tally};
use crate::transport::TransportError;

/// A server that restarts is back within a second or two; one that is away for hours is asked twice a
/// minute.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often a pause looks whether it shall end.
const LOOK: Duration = Duration::from_millis(100);

/// Why a call was given up.
pub(crate) enum GivenUp {
    Transport(TransportError),
    Stopped(String),
}

/// Repeats `call` until it succeeds, fails for good, or the watcher or `abort` says stop. The time counts
/// as waiting for the network.
pub(crate) fn persist<T>(
    tally: &Tally<'_>,
    abort: &dyn Fn() -> bool,
    mut call: impl FnMut() -> Result<T, TransportError>,
) -> Result<T, GivenUp> {
    tally.time(Busy::Network, || {
        let mut pause = FIRST_PAUSE;
        loop {
            match call() {
                Ok(value) => return Ok(value),
                Err(error) if !error.may_retry() => return Err(GivenUp::Transport(error)),
                Err(error) => {
                    tracing::info!(%error, pause_ms = pause.as_millis(), "waiting for the store");
                    rest(tally, abort, pause, error)?;
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    })
}

fn rest(
    tally: &Tally<'_>,
    abort: &dyn Fn() -> bool,
    pause: Duration,
    error: TransportError,
) -> Result<(), GivenUp> {
    let mut left = pause;
    while !left.is_zero() {
        if let Some(reason) = tally.stop() {
            return Err(GivenUp::Stopped(reason));
        }
        if abort() {
            return Err(GivenUp::Transport(error));
        }
        let step = left.min(LOOK);
        thread::sleep(step);
        left -= step;
    }
    Ok(())
}
