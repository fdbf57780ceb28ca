//! Gauges of what is in progress.

/// Counts one unit of work in a gauge until it is dropped.
#[derive(Debug)]
pub struct InFlight(&'static str);

impl InFlight {
    /// Begins to count one unit in this gauge.
    pub fn begin(gauge: &'static str) -> Self {
        metrics::gauge!(gauge).increment(1);
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!(self.0).decrement(1);
    }
}
