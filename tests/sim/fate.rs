//! What befalls a request on its way, and its answer on the way back.

use std::time::Duration;

use adapter_osb::{Body, Headers, What};

use super::broker::Asked;
use super::rng::Rng;

/// What befalls one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing.
    Fine,
    /// Not a byte leaves.
    NotSent,
    /// It is lost, and silence follows.
    Lost,
    /// It arrives so many milliseconds after it was sent, when nobody waits any more.
    Late(i64),
    /// It arrives, and the answer is lost.
    Mute,
    /// The connection ends before it arrives.
    Reset,
    /// The connection ends when it was carried out.
    ResetAfter,
    /// It is answered with this status by something on the way.
    Refused(u16),
    /// It is carried out, and answered with this status.
    Broken(u16),
    /// It is carried out, and the answer cannot be read.
    Garbled(u8),
    /// 422 ConcurrencyError.
    Busy,
    /// 429.
    TooMany(u32),
    /// A poll is told that the operation failed, or that it still goes on.
    Flip(&'static str),
}

impl Fate {
    /// What befalls this request while faults go on; in a storm, worse.
    pub(super) fn drawn(asked: &Asked, storm: bool, rng: &mut Rng) -> Self {
        if storm && rng.chance(700) {
            return *rng.pick(&[
                Self::NotSent,
                Self::Lost,
                Self::Reset,
                Self::Refused(503),
                Self::Refused(502),
                Self::Broken(500),
                Self::ResetAfter,
            ]);
        }
        if !rng.chance(250) {
            return Self::Fine;
        }
        let late = rng.between(61_000, 118_000);
        let wait = u32::try_from(rng.below(60)).unwrap_or(0);
        let garbled = u8::try_from(rng.below(4)).unwrap_or(0);
        let refused = *rng.pick(&[
            302, 400, 401, 403, 404, 408, 409, 412, 413, 418, 422, 500, 501, 502, 503, 504, 599,
        ]);
        let fates = [
            (3, Self::NotSent),
            (3, Self::Lost),
            (3, Self::Late(late)),
            (4, Self::Mute),
            (2, Self::Reset),
            (4, Self::ResetAfter),
            (5, Self::Refused(refused)),
            (4, Self::Broken(*rng.pick(&[500, 502, 503, 299, 307]))),
            (3, Self::Garbled(garbled)),
            (4, Self::Busy),
            (3, Self::TooMany(wait)),
        ];
        let fate = *rng.weighted(&fates);
        match fate {
            Self::Busy if asked.change().is_none() => Self::TooMany(wait),
            Self::Late(_) if asked.change().is_none() => Self::Lost,
            Self::Refused(_) | Self::Garbled(_) if asked.is_poll() && rng.chance(500) => {
                Self::Flip(if rng.chance(333) {
                    "failed"
                } else {
                    "in progress"
                })
            }
            fate => fate,
        }
    }

    /// Whether the broker gets it.
    pub(super) fn arrives(self) -> bool {
        match self {
            Self::NotSent
            | Self::Lost
            | Self::Reset
            | Self::Refused(_)
            | Self::Busy
            | Self::TooMany(_) => false,
            Self::Flip(state) => state != "failed",
            Self::Fine
            | Self::Late(_)
            | Self::Mute
            | Self::ResetAfter
            | Self::Broken(_)
            | Self::Garbled(_) => true,
        }
    }

    /// Whether the platform hears nothing until its patience ends.
    pub(super) fn silent(self) -> bool {
        matches!(self, Self::Lost | Self::Late(_) | Self::Mute)
    }

    /// What the platform hears, given what the broker said.
    pub(super) fn heard(self, said: Option<What>) -> What {
        match self {
            Self::Fine | Self::Lost | Self::Late(_) | Self::Mute => said.unwrap_or(What::TimedOut),
            Self::NotSent => What::NotSent("connection refused".into()),
            Self::Reset | Self::ResetAfter => What::Lost("connection reset by peer".into()),
            Self::Refused(status) => answered(status, b"{\"description\":\"by a gateway\"}", None),
            Self::Broken(status) => answered(status, b"<html>oops</html>", None),
            Self::Busy => answered(
                422,
                b"{\"error\":\"ConcurrencyError\",\"description\":\"busy\"}",
                None,
            ),
            Self::TooMany(wait) => answered(429, b"{}", Some(wait)),
            Self::Flip(state) => {
                answered(200, format!("{{\"state\":\"{state}\"}}").as_bytes(), None)
            }
            Self::Garbled(how) => garbled(how, said),
        }
    }
}

/// An answer of the broker, as it is heard.
pub(super) fn answered(status: u16, body: &[u8], retry_after: Option<u32>) -> What {
    What::Answered {
        status,
        headers: Headers {
            retry_after: retry_after.map(|seconds| Duration::from_secs(seconds.into())),
            etag: None,
        },
        body: Body::Whole(body.to_vec().into()),
    }
}

fn garbled(how: u8, said: Option<What>) -> What {
    let Some(What::Answered {
        status, headers, ..
    }) = said
    else {
        return What::Lost("connection reset by peer".into());
    };
    let body = match how {
        0 => Body::Whole(b"<html>it works</html>".to_vec().into()),
        1 => Body::Cut("unexpected end".into()),
        2 => Body::TooLarge,
        _ => Body::Whole(b"[1, 2".to_vec().into()),
    };
    What::Answered {
        status,
        headers,
        body,
    }
}
