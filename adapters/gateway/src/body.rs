//! A request's body, bounded in size and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

/// How long a client whose body is too large may go on sending before it is cut off. A client
/// that is cut off at once meets a broken connection, and never reads why.
const FAREWELL: Duration = Duration::from_secs(1);
/// How much more than allowed such a client may send, in bodies of the largest size.
const FAREWELL_BODIES: usize = 4;

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("request body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("request body took longer than {} s", .0.as_secs())]
    Slow(Duration),
    #[error("request body is incomplete")]
    Broken,
}

/// Reads a body of at most `bytes_max` within `patience`. A client that `asks` first, by
/// `Expect: 100-continue`, is refused before it sends anything.
pub(crate) async fn read(
    mut body: Incoming,
    bytes_max: usize,
    patience: Duration,
    asks: bool,
) -> Result<Bytes, Error> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if body.size_hint().lower() > bytes_max as u64 {
        if !asks {
            discard(body, bytes_max).await;
        }
        return Err(Error::TooLarge(bytes_max));
    }
    match timeout(patience, gather(&mut body, bytes_max)).await {
        Err(_) => Err(Error::Slow(patience)),
        Ok(Err(error @ Error::TooLarge(_))) => {
            discard(body, bytes_max).await;
            Err(error)
        }
        Ok(read) => read,
    }
}

async fn gather(body: &mut Incoming, bytes_max: usize) -> Result<Bytes, Error> {
    let mut read = Read::default();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Error::Broken)?.into_data() else {
            continue;
        };
        if read.len() + data.len() > bytes_max {
            return Err(Error::TooLarge(bytes_max));
        }
        read.push(data);
    }
    Ok(read.done())
}

/// What has been read; most bodies come in one piece, which is kept as it is.
#[derive(Default)]
struct Read {
    first: Bytes,
    all: BytesMut,
}

impl Read {
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn push(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.first = data;
        } else {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
            self.all.extend_from_slice(&data);
        }
    }

    fn done(self) -> Bytes {
        if self.all.is_empty() {
            self.first
        } else {
            self.all.freeze()
        }
    }
}

async fn discard(mut body: Incoming, bytes_max: usize) {
    let mut left = bytes_max.saturating_mul(FAREWELL_BODIES);
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    // Whether it ended, ran out or timed out, the client now gets its answer.
    let _ = timeout(FAREWELL, all).await;
}
