//! A Dispatch in memory: it decides a little, remembers what it was asked, and goes wrong on
//! purpose.

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use adapter_kit::{ClientError, Commands, Queries, RunTicket, Runs, Submission};
use adapter_rest::{Authenticator, Identity, Scope};
use async_trait::async_trait;
use engine_model::{
    Actor, Answer, AsOf, ClientSealed, Code, Command, CommandId, Filter, Kind, Name, OrgName,
    Query, Rejection, Reply, RunCommand, RunError, RunErrorKind, RunId, RunReply, RunResult, Seq,
    Timestamp,
};
use serde_json::{Map, Value, json};

/// A token for every organization.
pub(crate) const ROOT: &str = "root-token";
/// A token of the organization `dispatch` alone.
pub(crate) const BOUND: &str = "bound-token";

/// How a port goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never answers.
    Silent,
    /// It says that it waited in vain.
    Late,
    /// It cannot be reached.
    Away,
}

impl Fault {
    async fn happen<T>(self) -> Result<T, ClientError> {
        match self {
            Self::Silent => pending().await,
            Self::Late => Err(ClientError::Timeout(Duration::from_secs(7))),
            Self::Away => Err(ClientError::Unreachable("nats://canary@host".into())),
        }
    }
}

/// What it knows.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) seq: u64,
    pub(crate) documents: BTreeMap<(String, Kind, String), Value>,
    pub(crate) runs: BTreeMap<RunId, Value>,
    pub(crate) outcomes: HashMap<CommandId, Reply>,
    pub(crate) submissions: Vec<Submission>,
    pub(crate) started: Vec<(RunCommand, Actor, Option<Duration>)>,
    pub(crate) queries: Vec<Query>,
    pub(crate) commands_fault: Option<Fault>,
    pub(crate) runs_fault: Option<Fault>,
    pub(crate) queries_fault: Option<Fault>,
    /// Deleted resources stay, in status DELETING.
    pub(crate) linger: bool,
    /// Runs succeed with this output in the blob store.
    pub(crate) output_blob: Option<String>,
}

/// A Dispatch in memory.
#[derive(Default)]
pub(crate) struct Dispatch(Mutex<State>);

impl Dispatch {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The last question that it was asked.
    pub(crate) fn last_query(&self) -> Filter {
        self.state().queries.last().unwrap().filter.clone()
    }

    /// The last command that it was given.
    pub(crate) fn last_command(&self) -> Command {
        self.state().submissions.last().unwrap().command.clone()
    }
}

/// Shows how much was sealed, and nothing of it.
pub(crate) fn seal(plain: &[u8]) -> ClientSealed {
    ClientSealed {
        key: "k1".into(),
        encapsulated: "AA==".into(),
        ciphertext: plain.len().to_string(),
    }
}

#[async_trait]
impl Authenticator for Dispatch {
    async fn authenticate(&self, bearer: &str) -> Option<Identity> {
        let scope = match bearer {
            ROOT => Scope::All,
            BOUND => Scope::Org(OrgName::new("dispatch").unwrap()),
            _ => return None,
        };
        Some(Identity {
            actor: Actor("account:ci".into()),
            scope,
        })
    }
}

#[async_trait]
impl Commands for Dispatch {
    async fn submit(&self, submission: Submission) -> Result<Reply, ClientError> {
        let fault = self.state().commands_fault;
        if let Some(fault) = fault {
            return fault.happen().await;
        }
        let mut state = self.state();
        if let Some(reply) = state.outcomes.get(&submission.id) {
            return Ok(reply.clone());
        }
        state.submissions.push(submission.clone());
        let command = submission.id;
        let reply = match decide(&mut state, submission) {
            Ok(()) => {
                state.seq += 1;
                Reply::Done {
                    command,
                    seq: Seq(state.seq),
                }
            }
            Err(rejection) => Reply::Rejected { command, rejection },
        };
        state.outcomes.insert(command, reply.clone());
        Ok(reply)
    }
}

fn decide(state: &mut State, submission: Submission) -> Result<(), Rejection> {
    let Submission { key, command, .. } = submission;
    let (kind, place) = (
        key.kind,
        (key.org.to_string(), key.kind, key.name.to_string()),
    );
    let known = state.documents.contains_key(&place);
    match command {
        Command::Create(_) if known => Err(Rejection::new(
            Code::AlreadyExists,
            format!("{kind} {} already exists", key.name),
        )),
        Command::Create(spec) => {
            state
                .documents
                .insert(place, document(kind, &key.name, &json!(spec)));
            Ok(())
        }
        Command::Adopt { spec, .. } => {
            let spec = json!(engine_model::spec::Spec::ServiceInstance(spec));
            state
                .documents
                .insert(place, document(kind, &key.name, &spec));
            Ok(())
        }
        _ if !known => Err(Rejection::new(
            Code::NotFound,
            format!("{kind} {} not found", key.name),
        )),
        Command::Update(spec) => {
            state
                .documents
                .insert(place, document(kind, &key.name, &json!(spec)));
            Ok(())
        }
        Command::Delete(_) if state.linger => {
            state.documents.get_mut(&place).unwrap()["status"] = json!("DELETING");
            Ok(())
        }
        Command::Delete(_) => {
            state.documents.remove(&place);
            Ok(())
        }
        Command::Refresh
        | Command::Retry
        | Command::Rotate
        | Command::Abandon { .. }
        | Command::Rollback { .. }
        | Command::Route { .. } => Ok(()),
    }
}

/// A document as the views show it: no secrets, no sources, tags as a list.
fn document(kind: Kind, name: &Name, spec: &Value) -> Value {
    let mut fields: Map<String, Value> = spec[kind.as_str()].as_object().unwrap().clone();
    for hidden in ["secrets", "credentials", "source"] {
        if kind != Kind::Function || hidden == "source" {
            fields.remove(hidden);
        }
    }
    let tags = fields.remove("tags").unwrap_or_else(|| json!({}));
    let tags: Vec<Value> = tags
        .as_object()
        .unwrap()
        .iter()
        .map(|(k, v)| json!({ "key": k, "value": v }))
        .collect();
    fields.insert("tags".into(), json!(tags));
    fields.insert("kind".into(), json!(kind));
    fields.insert("name".into(), json!(name));
    fields.insert("status".into(), json!("INITIALIZED"));
    Value::Object(fields)
}

#[async_trait]
impl Queries for Dispatch {
    async fn query(&self, query: Query) -> Result<Answer, ClientError> {
        let fault = self.state().queries_fault;
        if let Some(fault) = fault {
            return fault.happen().await;
        }
        let mut state = self.state();
        state.queries.push(query.clone());
        if query.at_least.0 > state.seq {
            return Err(ClientError::Timeout(Duration::from_secs(1)));
        }
        let documents = find(&state, &query)?;
        Ok(Answer {
            as_of: AsOf {
                seq: Seq(state.seq),
                at: Timestamp(0),
            },
            documents,
        })
    }
}

fn find(state: &State, query: &Query) -> Result<Vec<Value>, Rejection> {
    let org = query.org.as_str();
    let absent = |what: String| Rejection::new(Code::NotFound, format!("{what} not found"));
    match &query.filter {
        Filter::One { kind, name } | Filter::History { kind, name } => {
            let place = (org.to_owned(), *kind, name.to_string());
            let found = state.documents.get(&place).cloned();
            found
                .map(|document| vec![document])
                .ok_or_else(|| absent(format!("{kind} {name}")))
        }
        Filter::All { kind, .. } => {
            let mine = |(o, k, _): &(String, Kind, String)| o == org && k == kind;
            let found = state.documents.iter().filter(|(place, _)| mine(place));
            Ok(found.map(|(_, document)| document.clone()).collect())
        }
        Filter::Run { id } => {
            let found = state.runs.get(id).cloned();
            found
                .map(|run| vec![run])
                .ok_or_else(|| absent(format!("run {id}")))
        }
        Filter::Runs { limit, .. } => {
            Ok(state.runs.values().take(*limit as usize).cloned().collect())
        }
        Filter::Info => Ok(vec![json!({ "publicKey": "k1:AA==" })]),
        Filter::DeadLetters { .. }
        | Filter::Revive { .. }
        | Filter::Rebuild
        | Filter::Live { .. }
        | Filter::Revisions { .. }
        | Filter::Orphans => Ok(vec![]),
    }
}

#[async_trait]
impl Runs for Dispatch {
    async fn cancel(&self, id: RunId, _: &OrgName, _: &Name, _: Actor) -> Result<Seq, ClientError> {
        let mut state = self.state();
        let Some(run) = state.runs.get_mut(&id) else {
            let message = format!("run {id} does not exist");
            return Err(Rejection::new(Code::NotFound, message).into());
        };
        if run["status"] == "READY" {
            let message = format!("run {id} has ended already");
            return Err(Rejection::new(Code::AlreadyEnded, message).into());
        }
        run["status"] = json!("CANCELLED");
        Ok(Seq(41))
    }

    async fn run(
        &self,
        id: RunId,
        _: &OrgName,
        function: &Name,
        command: RunCommand,
        actor: Actor,
        wait: Option<Duration>,
    ) -> Result<RunTicket, ClientError> {
        let fault = self.state().runs_fault;
        if let Some(fault) = fault {
            return fault.happen().await;
        }
        let mut state = self.state();
        state.started.push((command.clone(), actor, wait));
        let mut reply = RunReply {
            run: id,
            seq: Seq(40),
            started: None,
            rejection: None,
            result: RunResult::default(),
            finished_at: Timestamp(1000),
        };
        if function.as_str() == "sleepy" {
            let message = "function sleepy is not READY";
            reply.rejection = Some(Rejection::new(Code::NotReady, message));
            return Ok(RunTicket::Finished(reply));
        }
        let failed = function.as_str() == "broken";
        let output_blob = state.output_blob.clone();
        let output = if output_blob.is_some() {
            Value::Null
        } else {
            command.input.clone()
        };
        let status = match (wait, failed) {
            (None, _) => "INITIALIZED",
            (Some(_), true) => "ERROR",
            (Some(_), false) => "READY",
        };
        let mut run = json!({
            "name": id, "functionName": function, "input": command.input, "output": output,
            "blocking": command.blocking, "status": status, "tags": [],
        });
        if let Some(digest) = &command.input_blob {
            run["inputBlob"] = json!(digest);
        }
        if let Some(digest) = &output_blob {
            run["outputBlob"] = json!(digest);
        }
        state.runs.insert(id, run);
        if wait.is_none() {
            return Ok(RunTicket::Accepted {
                run: id,
                seq: Seq(39),
            });
        }
        reply.result = RunResult {
            output,
            output_blob,
            ..RunResult::default()
        };
        reply.result.error = failed.then(|| RunError {
            kind: RunErrorKind::FunctionError,
            message: "it broke".into(),
            stacktrace: vec![],
        });
        Ok(RunTicket::Finished(reply))
    }
}
