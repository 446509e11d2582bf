//! The one place of this crate that reads the clock.

use engine_model::Timestamp;

/// This moment.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp(chrono::Utc::now().timestamp_millis())
}
