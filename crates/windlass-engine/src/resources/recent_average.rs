//! The average of recent durations.

use std::time::Duration;

/// The weight of all earlier durations, if that of a new one is 1.
const EARLIER: u32 = 15;

/// An exponentially weighted average. It is zero until the first duration is recorded.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct RecentAverage(Option<Duration>);

impl RecentAverage {
    pub(crate) fn record(&mut self, duration: Duration) {
        self.0 = Some(self.0.map_or(duration, |it| (it * EARLIER + duration) / (EARLIER + 1)));
    }

    pub(crate) fn get(self) -> Duration {
        self.0.unwrap_or_default()
    }
}
