//! What the gateway calls: a run like any other, durable before it is run; or, where the endpoint
//! keeps no record and this node has workers, the function itself.

use std::sync::Arc;

use adapter_gateway::{Failure, Invocation, Invoked, Invoker};
use adapter_kit::{Blobs, ClientError, Digest, RunTicket, Runs};
use async_trait::async_trait;
use engine_model::{
    Actor, Code, Name, OrgName, Rejection, RunCommand, RunErrorKind, RunId, RunReply, RunResult,
};
use engine_runtime::Caller;
use serde_json::Value;
use uuid::Uuid;

/// Turns requests into runs.
pub(crate) struct RunInvoker {
    pub(crate) runs: Arc<dyn Runs>,
    pub(crate) blobs: Arc<dyn Blobs>,
    /// None on a node without workers: its requests are runs, whatever the endpoint says.
    pub(crate) direct: Option<Caller>,
}

#[async_trait]
impl Invoker for RunInvoker {
    async fn invoke(&self, invocation: Invocation) -> Invoked {
        let id = RunId(Uuid::now_v7());
        let (Ok(org), Ok(function)) = (
            OrgName::new(invocation.org.clone()),
            Name::new(invocation.function.clone()),
        ) else {
            return failed(id, Failure::NotFound, "the endpoint names no function");
        };
        if let Some(caller) = &self.direct
            && invocation.blocking
            && !invocation.record
        {
            return call(caller, id, &org, &function, invocation).await;
        }
        let command = RunCommand {
            input: invocation.input,
            blocking: invocation.blocking,
            http_context: invocation.http_context,
            ..RunCommand::default()
        };
        let actor = Actor::from_header(&format!("api:{}", invocation.api));
        let wait = invocation.blocking.then_some(invocation.timeout);
        match self
            .runs
            .run(id, &org, &function, command, actor, wait)
            .await
        {
            Ok(RunTicket::Accepted { .. }) => Invoked::Accepted {
                run_id: id.to_string(),
            },
            Ok(RunTicket::Finished(reply)) => self.finished(id, reply).await,
            Err(ClientError::Rejected(rejection)) => refused(id, &rejection),
            Err(ClientError::Timeout(_)) => failed(
                id,
                Failure::Timeout,
                "the function did not end in time; it goes on",
            ),
            Err(ClientError::Unreachable(reason)) => failed(id, Failure::Unavailable, &reason),
        }
    }
}

impl RunInvoker {
    async fn finished(&self, id: RunId, reply: RunReply) -> Invoked {
        if let Some(rejection) = &reply.rejection {
            return refused(id, rejection);
        }
        if let Some(error) = &reply.result.error {
            return failed(id, blame(error.kind), &error.message);
        }
        let Some(digest) = reply.result.output_blob.as_deref().and_then(Digest::parse) else {
            return Invoked::Output(reply.result.output);
        };
        match self
            .blobs
            .get(&digest)
            .await
            .map(|bytes| serde_json::from_slice::<Value>(&bytes))
        {
            Ok(Ok(output)) => Invoked::Output(output),
            Ok(Err(error)) => failed(id, Failure::SystemError, &error.to_string()),
            Err(error) => failed(id, Failure::SystemError, &error.to_string()),
        }
    }
}

/// Calls a function that leaves no run, so that there is none to name in the answer.
async fn call(
    caller: &Caller,
    id: RunId,
    org: &OrgName,
    function: &Name,
    invocation: Invocation,
) -> Invoked {
    let Invocation {
        input,
        http_context,
        timeout,
        ..
    } = invocation;
    let called = caller.call(id, org, function, input, http_context);
    let failed = |kind, message: &str| Invoked::Failed {
        kind,
        message: message.to_owned(),
        run_id: None,
    };
    match tokio::time::timeout(timeout, called).await {
        Ok(Ok(RunResult { error: Some(e), .. })) => failed(blame(e.kind), &e.message),
        Ok(Ok(result)) => Invoked::Output(result.output),
        Ok(Err(rejection)) => failed(reason(&rejection), &rejection.message),
        Err(_) => failed(Failure::Timeout, "the function did not end in time"),
    }
}

fn blame(kind: RunErrorKind) -> Failure {
    match kind {
        RunErrorKind::InputError => Failure::InputError,
        RunErrorKind::FunctionError => Failure::FunctionError,
        RunErrorKind::SystemError => Failure::SystemError,
        RunErrorKind::Cancelled => Failure::Cancelled,
    }
}

fn failed(id: RunId, kind: Failure, message: &str) -> Invoked {
    Invoked::Failed {
        kind,
        message: message.to_owned(),
        run_id: Some(id.to_string()),
    }
}

fn refused(id: RunId, rejection: &Rejection) -> Invoked {
    failed(id, reason(rejection), &rejection.message)
}

fn reason(rejection: &Rejection) -> Failure {
    match rejection.code {
        Code::NotFound => Failure::NotFound,
        Code::NotReady | Code::BeingDeleted => Failure::NotReady,
        Code::Busy => Failure::Busy,
        Code::TooLarge => Failure::TooLarge,
        Code::Unavailable => Failure::Unavailable,
        _ => Failure::SystemError,
    }
}
