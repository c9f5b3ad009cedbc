//! The one timer of a transfer.
//!
//! In lock step the time to send again moves with every packet, and moving a timer costs as much as reading the
//! packet. So it is left where it is when the time moves on, rings early, and is set anew then.

use std::pin::Pin;
use std::time::Duration;

use farrier_proto::Instant;
use tokio::time::Sleep;

pub(super) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// When it rings; none once it has rung.
    set_for: Option<Instant>,
}

impl Alarm {
    pub(super) fn new() -> Self {
        Self {
            sleep: Box::pin(tokio::time::sleep(IDLE)),
            set_for: None,
        }
    }

    /// Makes it ring at `due` at the latest.
    pub(super) fn set_by(&mut self, due: Option<Instant>, now: Instant) {
        let due = due.unwrap_or(now + IDLE);
        if self.set_for.is_none_or(|set_for| due < set_for) {
            let at = tokio::time::Instant::now() + due.since(now);
            self.sleep.as_mut().reset(at);
            self.set_for = Some(due);
        }
    }

    /// Waits for it. May be given up and called again.
    pub(super) async fn ring(&mut self) {
        self.sleep.as_mut().await;
        self.set_for = None;
    }
}

/// A transfer without a timer does not exist; this only bounds a mistake of ours.
const IDLE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farrier_proto::Instant;
    use tokio::time::timeout;

    use super::Alarm;

    #[tokio::test]
    async fn it_is_left_when_the_time_moves_on_and_moved_when_it_comes_nearer() {
        let began = tokio::time::Instant::now();
        let now = || Instant(u64::try_from(began.elapsed().as_millis()).unwrap());
        let mut alarm = Alarm::new();
        alarm.set_by(Some(Instant(40)), now());
        alarm.set_by(Some(Instant(3_600_000)), now());
        let rang = timeout(Duration::from_secs(60), alarm.ring()).await;
        assert!(rang.is_ok() && now().0 >= 40, "where it was: {:?}", now());
        alarm.set_by(Some(Instant(3_600_000)), now());
        alarm.set_by(Some(now() + Duration::from_millis(20)), now());
        let rang = timeout(Duration::from_secs(60), alarm.ring()).await;
        assert!(rang.is_ok() && now().0 >= 60, "nearer: {:?}", now());
    }
}
