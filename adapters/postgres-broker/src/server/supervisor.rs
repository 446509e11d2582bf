//! The supervisor of one dedicated server: the only owner of its process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::postmaster::{self, Postmaster};
use super::{Error, Yard, conf};
use crate::record::Spec;

/// Requests that may wait. An instance has one operation at a time, and the desk may add one more.
const REQUESTS: usize = 4;
/// How long a server that died is left alone, doubled each time it dies again.
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(100);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A server that ran this long is restarted as if it had never died.
const STEADY_AFTER: Duration = Duration::from_secs(60);

/// Reaches the supervisor of a server. When the last one is dropped, the server is ended.
#[derive(Clone, Debug)]
pub(crate) struct Handle(mpsc::Sender<Request>);

type Reply = oneshot::Sender<Result<(), Error>>;
/// The answer to a request, which does not come if the broker stops.
pub(crate) type Answer = oneshot::Receiver<Result<(), Error>>;

#[derive(Debug)]
enum Request {
    Run {
        port: u16,
        spec: Box<Spec>,
        reply: Reply,
    },
    Stop {
        remove: bool,
        reply: Reply,
    },
}

enum Event {
    Asked(Request),
    Died,
    RestartDue,
    Abandoned,
}

impl Handle {
    /// Begins to supervise the server of an instance, which does not run yet.
    pub(crate) fn supervise(yard: Arc<Yard>, instance_id: String, tasks: &TaskTracker) -> Self {
        let (handle, requests) = mpsc::channel(REQUESTS);
        let supervisor = Supervisor {
            data: yard.data(&instance_id),
            yard,
            instance_id,
            wanted: None,
            running: None,
            pause: RESTART_PAUSE_MIN,
        };
        tasks.spawn(supervisor.run(requests));
        Self(handle)
    }

    /// Makes the server run with this configuration, from now on and whenever it dies; returns when
    /// it accepts connections. To repeat this changes nothing.
    pub(crate) async fn run(&self, port: u16, spec: &Spec) -> Result<(), Error> {
        let spec = Box::new(spec.clone());
        self.ask(|reply| Request::Run { port, spec, reply }).await
    }

    /// Ends the server, and removes its directory if `remove`.
    pub(crate) async fn stop(&self, remove: bool) -> Result<(), Error> {
        self.ask(|reply| Request::Stop { remove, reply }).await
    }

    /// Asks for [`Handle::run`] before any request that is made after this call; the answer can be
    /// waited for. Only for a supervisor that nobody has asked anything yet.
    pub(crate) fn begin_to_run(&self, port: u16, spec: &Spec) -> Answer {
        let spec = Box::new(spec.clone());
        self.enqueue(|reply| Request::Run { port, spec, reply })
    }

    /// As [`Handle::begin_to_run`], for a server that may have been left running.
    pub(crate) fn begin_to_stop(&self) -> Answer {
        self.enqueue(|reply| Request::Stop {
            remove: false,
            reply,
        })
    }

    fn enqueue(&self, request: impl FnOnce(Reply) -> Request) -> Answer {
        let (reply, answer) = oneshot::channel();
        // If it has no room the reply is dropped, which the one who waits sees.
        let _ = self.0.try_send(request(reply));
        answer
    }

    async fn ask(&self, request: impl FnOnce(Reply) -> Request) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.0
            .send(request(reply))
            .await
            .map_err(|_| Error::Stopping)?;
        answer.await.map_err(|_| Error::Stopping)?
    }
}

struct Supervisor {
    yard: Arc<Yard>,
    instance_id: String,
    data: PathBuf,
    wanted: Option<(u16, Spec)>,
    running: Option<Running>,
    pause: Duration,
}

struct Running {
    postmaster: Postmaster,
    as_wanted: (u16, Spec),
    since: Instant,
}

impl Supervisor {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut restart_at = Instant::now();
        loop {
            let due = self.wanted.is_some() && self.running.is_none();
            let event = tokio::select! {
                request = requests.recv() => request.map_or(Event::Abandoned, Event::Asked),
                () = died(&mut self.running) => Event::Died,
                () = sleep_until(restart_at), if due => Event::RestartDue,
            };
            match event {
                Event::Asked(Request::Run { port, spec, reply }) => {
                    let result = self.bring_up((port, *spec)).await;
                    // Who asked may have given up waiting.
                    let _ = reply.send(result);
                    restart_at = Instant::now() + self.pause;
                }
                Event::Asked(Request::Stop { remove, reply }) => {
                    let _ = reply.send(self.take_down(remove).await);
                }
                Event::Died => restart_at = self.note_death().await,
                Event::RestartDue => {
                    if let Err(error) = self.start().await {
                        self.pause = (self.pause * 2).min(RESTART_PAUSE_MAX);
                        let error = crate::job::chain(&error);
                        tracing::warn!(instance.id = %self.instance_id, error, "server not restarted");
                    }
                    restart_at = Instant::now() + self.pause;
                }
                Event::Abandoned => break,
            }
        }
        if let Err(error) = self.take_down(false).await {
            let error = crate::job::chain(&error);
            tracing::error!(instance.id = %self.instance_id, error, "server not ended");
        }
    }

    async fn bring_up(&mut self, wanted: (u16, Spec)) -> Result<(), Error> {
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.as_wanted == wanted)
        {
            return Ok(());
        }
        self.take_down(false).await?;
        let durable = conf::is_durable(&wanted.1.backing);
        self.yard.make_home(&self.instance_id, durable).await?;
        self.wanted = Some(wanted);
        self.start().await
    }

    async fn start(&mut self) -> Result<(), Error> {
        let Some((port, spec)) = self.wanted.clone() else {
            return Ok(());
        };
        let _permit = self
            .yard
            .starts
            .acquire()
            .await
            .map_err(|_| Error::Stopping)?;
        postmaster::stop_leftover(&self.data).await?;
        self.yard.write_conf(&self.instance_id, port, &spec).await?;
        let postmaster = Postmaster::start(&self.yard, &self.data).await?;
        tracing::info!(instance.id = %self.instance_id, port, "server started");
        let running = Running {
            postmaster,
            as_wanted: (port, spec),
            since: Instant::now(),
        };
        self.running = Some(running);
        Ok(())
    }

    async fn take_down(&mut self, remove: bool) -> Result<(), Error> {
        self.wanted = None;
        match self.running.take() {
            Some(mut running) => running.postmaster.stop().await?,
            None => postmaster::stop_leftover(&self.data).await?,
        }
        if remove {
            self.yard.remove_home(&self.instance_id).await?;
        }
        Ok(())
    }

    /// Returns when to start it again.
    async fn note_death(&mut self) -> Instant {
        if let Some(mut running) = self.running.take() {
            let steady = running.since.elapsed() > STEADY_AFTER;
            self.pause = if steady {
                RESTART_PAUSE_MIN
            } else {
                (self.pause * 2).min(RESTART_PAUSE_MAX)
            };
            let log = running.postmaster.last_words().await;
            tracing::warn!(instance.id = %self.instance_id, log, "server died");
        }
        Instant::now() + self.pause
    }
}

async fn died(running: &mut Option<Running>) {
    match running {
        Some(running) => running.postmaster.ended().await,
        None => std::future::pending().await,
    }
}
