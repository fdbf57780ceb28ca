//! The status of each background task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a background task has done since the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskStatus {
    /// When the last pass began; `None` before the first.
    pub last_start: Option<SystemTime>,
    /// How long the last completed pass took.
    pub last_duration: Duration,
    /// When the last successful pass ended.
    pub last_success: Option<SystemTime>,
    /// How many passes in a row have failed, up to the last completed one.
    pub failures_in_a_row: u32,
}

/// The status of each background task, by name. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct TaskStatuses(Arc<Mutex<BTreeMap<&'static str, TaskStatus>>>);

impl TaskStatuses {
    /// The status of each task that has begun a pass.
    pub(crate) fn all(&self) -> BTreeMap<&'static str, TaskStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records that a pass begins now. Until a pass has succeeded, the first one's start counts as the last success in
    /// the metrics, so that an alert also sees a task that never succeeds.
    pub(crate) fn begin(&self, task: &'static str) {
        let now = SystemTime::now();
        self.update(task, |it| {
            if it.last_start.is_none() {
                export_success(task, now);
            }
            it.last_start = Some(now);
        });
    }

    /// Records that the pass has ended now, also in the metrics.
    pub(crate) fn end(&self, task: &'static str, succeeded: bool) {
        let now = SystemTime::now();
        self.update(task, |it| {
            let duration = it.last_start.and_then(|began| now.duration_since(began).ok());
            it.last_duration = duration.unwrap_or_default();
            it.failures_in_a_row = if succeeded { 0 } else { it.failures_in_a_row.saturating_add(1) };
            if succeeded {
                it.last_success = Some(now);
            }
        });
        for (outcome, passes) in [("ok", u64::from(succeeded)), ("failed", u64::from(!succeeded))] {
            metrics::counter!("windlass_background_passes_total", "task" => task, "outcome" => outcome)
                .increment(passes);
        }
        if succeeded {
            export_success(task, now);
        }
    }

    fn update(&self, task: &'static str, change: impl FnOnce(&mut TaskStatus)) {
        change(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(task).or_default());
    }
}

fn export_success(task: &'static str, at: SystemTime) {
    let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    metrics::gauge!("windlass_background_last_success_timestamp_seconds", "task" => task).set(since_epoch);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_after(outcomes: &[bool]) -> TaskStatus {
        let statuses = TaskStatuses::default();
        for succeeded in outcomes {
            statuses.begin("task");
            statuses.end("task", *succeeded);
        }
        statuses.all()["task"]
    }

    #[test]
    fn the_status_counts_the_failures_since_the_last_success() {
        let failing = status_after(&[false, true, false, false]);
        assert_eq!(failing.failures_in_a_row, 2);
        assert!(failing.last_success.is_some() && failing.last_success <= failing.last_start);
        let recovered = status_after(&[false, false, true]);
        assert_eq!(recovered.failures_in_a_row, 0);
        assert!(recovered.last_success >= recovered.last_start);
        assert_eq!(status_after(&[false]).last_success, None);
    }
}
