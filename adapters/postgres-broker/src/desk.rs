//! The desk: one task that owns all records. It decides, stores, and starts jobs; nothing that takes
//! long is awaited here.

mod census;
mod work;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::Answer;
use crate::catalog::Catalog;
use crate::config::Secret;
use crate::decide::binding::{Bind, Unbind};
use crate::decide::instance::{Deprovision, Provision, Update};
use crate::decide::poll::Poll;
use crate::decide::{Context, PlanIds, Reply, Verdict, binding, instance, outcome, poll};
use crate::job::{Failure, Workshop};
use crate::metrics::Page;
use crate::record::{Home, Instance, OperationKind, Stage};
use crate::server;
use crate::store::Store;
use work::Target;

/// Requests that may wait for the desk, which needs about a millisecond for each.
const REQUESTS: usize = 256;
/// How long jobs may take to come to the end of a step when the broker stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long servers may take to end: longer than fast and immediate shutdown together.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A request about an instance.
#[derive(Debug)]
pub(crate) enum Ask {
    Provision(Provision),
    Update(Update),
    Deprovision(Deprovision),
    Bind(Bind),
    Unbind(Unbind),
    FetchInstance { ids: PlanIds },
    FetchBinding { binding_id: String, ids: PlanIds },
    LastOperation(Poll),
}

/// What is sent to the desk.
#[derive(Debug)]
enum Request {
    About {
        instance_id: String,
        ask: Ask,
        reply: oneshot::Sender<Answer>,
    },
    Health {
        reply: oneshot::Sender<Answer>,
    },
    Metrics {
        reply: oneshot::Sender<Page>,
    },
}

/// Reaches the desk.
#[derive(Clone, Debug)]
pub(crate) struct Handle(mpsc::Sender<Request>);

impl Handle {
    /// Asks about an instance. The answer to a synchronous request comes when it is done.
    pub(crate) async fn ask(&self, instance_id: String, ask: Ask) -> Answer {
        self.send(|reply| Request::About {
            instance_id,
            ask,
            reply,
        })
        .await
    }

    /// Whether the desk is at work, and how much it has to do.
    pub(crate) async fn health(&self) -> Answer {
        self.send(|reply| Request::Health { reply }).await
    }

    /// What the desk has to tell Prometheus; nothing when it is stopping.
    pub(crate) async fn metrics(&self) -> Option<Page> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Request::Metrics { reply }).await.ok()?;
        answer.await.ok()
    }

    async fn send(&self, request: impl FnOnce(oneshot::Sender<Answer>) -> Request) -> Answer {
        let stopping = || {
            let text = "the broker is stopping: repeat the request";
            Answer::refused(StatusCode::SERVICE_UNAVAILABLE, "Stopping", text)
        };
        let (reply, answer) = oneshot::channel();
        if self.0.send(request(reply)).await.is_err() {
            return stopping();
        }
        answer.await.unwrap_or_else(|_| stopping())
    }
}

/// Everything that the broker knows.
pub(crate) struct Desk {
    catalog: Arc<Catalog>,
    store: Arc<Store>,
    workshop: Arc<Workshop>,
    records: HashMap<String, Instance>,
    servers: HashMap<String, server::Handle>,
    supervisors: TaskTracker,
    jobs: JoinSet<Result<(), Failure>>,
    /// What each running job works on.
    running: HashMap<Target, Running>,
    by_task: HashMap<Id, Target>,
    /// Who waits for the end of an operation.
    waiting: HashMap<String, Vec<oneshot::Sender<Answer>>>,
    ended: census::Ended,
}

struct Running {
    operation: String,
    kind: OperationKind,
    since: Instant,
    progress: &'static str,
    halt: CancellationToken,
}

enum Event {
    Asked(Request),
    Ended(Result<(Id, Result<(), Failure>), JoinError>),
    Stop,
}

impl Desk {
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        store: Store,
        records: HashMap<String, Instance>,
        workshop: Arc<Workshop>,
    ) -> Self {
        Self {
            catalog,
            store: Arc::new(store),
            workshop,
            records,
            servers: HashMap::new(),
            supervisors: TaskTracker::new(),
            jobs: JoinSet::new(),
            running: HashMap::new(),
            by_task: HashMap::new(),
            waiting: HashMap::new(),
            ended: census::Ended::default(),
        }
    }

    /// Opens the desk. The future runs until `stop`, and returns whether everything ended in time.
    pub(crate) fn open(
        self,
        stop: CancellationToken,
    ) -> (Handle, impl Future<Output = bool> + Send) {
        let (handle, requests) = mpsc::channel(REQUESTS);
        (Handle(handle), self.run(requests, stop))
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>, stop: CancellationToken) -> bool {
        self.resume().await;
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => Event::Stop,
                Some(ended) = self.jobs.join_next_with_id() => Event::Ended(ended),
                Some(request) = requests.recv() => Event::Asked(request),
            };
            match event {
                Event::Asked(Request::About {
                    instance_id,
                    ask,
                    reply,
                }) => {
                    self.attend(instance_id, ask, reply).await;
                }
                Event::Asked(Request::Health { reply }) => drop(reply.send(self.health())),
                Event::Asked(Request::Metrics { reply }) => drop(reply.send(self.metrics())),
                Event::Ended(ended) => self.conclude(ended).await,
                Event::Stop => return self.close().await,
            }
        }
    }

    async fn attend(&mut self, id: String, ask: Ask, reply: oneshot::Sender<Answer>) {
        let answer = match self.decide(&id, ask) {
            Err(answer) | Ok(Verdict::Answer(answer)) => answer,
            Ok(Verdict::Join {
                operation,
                reply: Reply::AtOnce,
            }) => Answer::accepted(&operation),
            Ok(Verdict::Join {
                operation,
                reply: Reply::AtEnd,
            }) => {
                self.waiting.entry(operation).or_default().push(reply);
                return;
            }
            Ok(Verdict::Begin {
                record,
                operation,
                reply: when,
            }) => match (self.begin(*record).await, when) {
                (Err(answer), _) => answer,
                (Ok(()), Reply::AtOnce) => Answer::accepted(&operation),
                (Ok(()), Reply::AtEnd) => {
                    self.waiting.entry(operation).or_default().push(reply);
                    return;
                }
            },
        };
        // Who asked may have hung up.
        let _ = reply.send(answer);
    }

    fn decide(&self, id: &str, ask: Ask) -> Result<Verdict, Answer> {
        let record = self.records.get(id);
        let ctx = Context {
            catalog: &self.catalog,
            operation: uuid::Uuid::now_v7().to_string(),
            now: chrono::Utc::now().timestamp(),
        };
        let address = || record.and_then(|record| self.workshop.address(record.home));
        match ask {
            Ask::Provision(ask) => {
                let plan = self.catalog.plan(&ask.service_id, &ask.plan_id);
                let new = record.is_none_or(Instance::is_gone);
                let dedicated = plan.is_some_and(|plan| plan.backing.is_dedicated());
                let port = if new && dedicated {
                    self.free_port()
                } else {
                    None
                };
                instance::provision(ctx, record, ask, port)
            }
            Ask::Update(ask) => instance::update(ctx, record, ask),
            Ask::Deprovision(ask) => instance::deprovision(ctx, record, &ask),
            Ask::Bind(ask) => binding::bind(ctx, record, ask, new_password(), address().as_ref()),
            Ask::Unbind(ask) => binding::unbind(ctx, record, &ask),
            Ask::FetchInstance { ids } => instance::fetch(record, &ids).map(Verdict::Answer),
            Ask::FetchBinding { binding_id, ids } => {
                binding::fetch(record, &binding_id, &ids, address().as_ref()).map(Verdict::Answer)
            }
            Ask::LastOperation(ask) => poll::last_operation(record, &ask, |operation| {
                let mut running = self.running.values();
                running
                    .find(|job| job.operation == operation)
                    .map(|job| job.progress)
            })
            .map(Verdict::Answer),
        }
    }

    /// Stores what is intended, then starts it.
    async fn begin(&mut self, record: Instance) -> Result<(), Answer> {
        if self.running.len() >= self.workshop.limits.waiting_operations {
            let text = "too many operations are waiting: repeat the request later";
            let busy = Answer::refused(StatusCode::TOO_MANY_REQUESTS, "TooManyOperations", text);
            return Err(busy.polled_again());
        }
        if let Err(error) = self.save(&record).await {
            tracing::error!(instance.id = %record.id, error, "record not stored");
            return Err(Answer::broken("the broker cannot store its records"));
        }
        let id = record.id.clone();
        self.records.insert(id.clone(), record);
        self.drive(&id).await;
        Ok(())
    }

    async fn conclude(&mut self, ended: Result<(Id, Result<(), Failure>), JoinError>) {
        let (task, result) = match ended {
            Ok((task, result)) => (task, result),
            Err(error) if error.is_cancelled() => (error.id(), Err(Failure::Unfinished)),
            Err(error) => {
                let text = "failed to finish: the work broke down".to_owned();
                (error.id(), Err(Failure::Failed(text)))
            }
        };
        let Some(target) = self.by_task.remove(&task) else {
            return;
        };
        let Some(job) = self.running.remove(&target) else {
            return;
        };
        let Some(record) = self.records.get(&target.instance_id) else {
            return;
        };
        let overtaken = work::operation_of(record, target.binding_id.as_deref())
            .is_none_or(|operation| operation.id != job.operation);
        let word = match &result {
            _ if overtaken => "halted",
            Ok(()) => "succeeded",
            Err(Failure::Failed(_)) => "failed",
            Err(Failure::Unfinished) => "unfinished",
        };
        self.ended.add(job.kind, word, job.since.elapsed());
        if !overtaken {
            let result = match result {
                Ok(()) => Ok(()),
                Err(Failure::Failed(text)) => Err(text),
                // Nothing but the end of the broker leaves what is wanted unfinished. It stays due,
                // and the next broker does it.
                Err(Failure::Unfinished) => return,
            };
            let now = chrono::Utc::now().timestamp();
            let binding_id = target.binding_id.as_deref();
            let record = outcome::ended(record.clone(), binding_id, result, now);
            if let Err(error) = self.save(&record).await {
                // The stored record still says that the work is due: it is repeated at restart.
                tracing::error!(instance.id = %record.id, error, "outcome not stored");
            }
            let id = record.id.clone();
            match record.stage {
                // The supervisor ends with its handle. A new create may have another port.
                Stage::Gone { .. } | Stage::CreateFailed => drop(self.servers.remove(&id)),
                Stage::Creating
                | Stage::Ready
                | Stage::Updating { .. }
                | Stage::Deleting
                | Stage::DeleteFailed => {}
            }
            self.records.insert(id, record);
            self.forget_old();
        }
        self.tell(&target, &job.operation);
        self.drive(&target.instance_id).await;
    }

    fn tell(&mut self, target: &Target, operation: &str) {
        let waiting = self.waiting.remove(operation).unwrap_or_default();
        let Some(record) = self.records.get(&target.instance_id) else {
            return;
        };
        let address = self.workshop.address(record.home);
        let binding_id = target.binding_id.as_deref();
        let answer = outcome::answer(record, binding_id, operation, address.as_ref());
        for reply in waiting {
            let _ = reply.send(answer.clone());
        }
    }

    async fn save(&self, record: &Instance) -> Result<(), String> {
        let (store, record) = (Arc::clone(&self.store), record.clone());
        match tokio::task::spawn_blocking(move || store.save(&record)).await {
            Ok(result) => result.map_err(|error| crate::job::chain(&error)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn free_port(&self) -> Option<u16> {
        let taken: HashSet<u16> = self
            .records
            .values()
            .filter(|record| !record.is_gone())
            .filter_map(|record| match record.home {
                Home::Shared => None,
                Home::Dedicated { port } => Some(port),
            })
            .collect();
        self.workshop.yard.as_ref()?.free_port(&taken)
    }

    /// Lets jobs come to the end of a step, then ends the servers. What is unfinished stays so in
    /// its record, and goes on at the next start.
    async fn close(mut self) -> bool {
        for job in self.running.values() {
            job.halt.cancel();
        }
        if let Some(yard) = &self.workshop.yard {
            yard.stopping.cancel();
        }
        let drained = timeout(DRAIN_TIMEOUT, async {
            while let Some(ended) = self.jobs.join_next_with_id().await {
                self.by_task_ended(ended).await;
            }
        })
        .await
        .is_ok();
        self.jobs.shutdown().await;
        self.servers.clear();
        self.supervisors.close();
        let stopped = timeout(STOP_TIMEOUT, self.supervisors.wait()).await.is_ok();
        drained && stopped
    }

    /// Records what a job achieved that ended while the broker was stopping.
    async fn by_task_ended(&mut self, ended: Result<(Id, Result<(), Failure>), JoinError>) {
        let Ok((task, Ok(()))) = ended else { return };
        let Some(target) = self.by_task.remove(&task) else {
            return;
        };
        let Some(job) = self.running.remove(&target) else {
            return;
        };
        let Some(record) = self.records.get(&target.instance_id) else {
            return;
        };
        let binding_id = target.binding_id.as_deref();
        let current = work::operation_of(record, binding_id);
        if current.is_some_and(|operation| operation.id == job.operation) {
            let now = chrono::Utc::now().timestamp();
            let record = outcome::ended(record.clone(), binding_id, Ok(()), now);
            if let Err(error) = self.save(&record).await {
                tracing::error!(instance.id = %record.id, error, "outcome not stored");
            }
        }
    }
}

/// 192 random bits, in characters that need no escaping in a URL.
fn new_password() -> Secret {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    Secret(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>()))
}
