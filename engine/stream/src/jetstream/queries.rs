//! The query service: a NATS micro service named `dispatch`, which `nats micro ls` shows.

use std::sync::Arc;

use async_nats::service::error::Error as ServiceError;
use async_nats::service::{Request, Service, ServiceExt as _};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use engine_model::{Answer, Code, Query, Rejection, subject};
use futures::{FutureExt as _, StreamExt as _};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::decode::{is_inbox, without_values};
use crate::link::{Link, unavailable};
use crate::message::{PART, json};
use crate::port::Error;

/// Queries answered at a time; more wait in the connection's buffer. Most are answered from
/// memory at once, but one may wait until a view has read up.
const UNDER_WAY_MAX: usize = 512;

/// Room for the headers of a part of a large answer.
const HEADER_ROOM: usize = 4096;

/// Largest answer in bytes. It is held whole on both sides.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Answers queries until it is dropped or stopped.
#[derive(Debug)]
pub struct QueryService {
    service: Option<Service>,
    link: Link,
    task: Option<AbortOnDropHandle<()>>,
}

impl QueryService {
    pub(super) async fn start<F, A>(link: &Link, answer: F) -> Result<Self, Error>
    where
        F: Fn(Query) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Answer, Rejection>> + Send + 'static,
    {
        let service = link
            .client
            .service_builder()
            .description("Answers questions about the resources and runs of Dispatch")
            .start("dispatch", env!("CARGO_PKG_VERSION"))
            .await
            .map_err(unavailable)?;
        let endpoint = service.endpoint_builder().name("query").add(subject::QUERY);
        let mut requests = endpoint.await.map_err(unavailable)?;
        // Who asks from now on finds it.
        link.round_trip().await?;
        let (client, answer) = (link.client.clone(), Arc::new(answer));
        let task = tokio::spawn(async move {
            let mut under_way = JoinSet::new();
            while let Some(request) = requests.next().await {
                while under_way.try_join_next().is_some() {}
                if under_way.len() >= UNDER_WAY_MAX {
                    under_way.join_next().await;
                }
                let (client, answer) = (client.clone(), answer.clone());
                under_way.spawn(async move { serve(&client, &*answer, &request).await });
            }
            // It was stopped: what is under way is still answered.
            while under_way.join_next().await.is_some() {}
        });
        let task = Some(AbortOnDropHandle::new(task));
        Ok(Self {
            service: Some(service),
            link: link.clone(),
            task,
        })
    }

    /// Takes no more queries, and answers those that are under way.
    pub async fn stop(mut self) {
        self.take_off();
        if let Some(task) = self.task.take() {
            // It ends by itself; it could only fail by a panic of an answer, which was told.
            let _ = task.await;
        }
        // Who asks from now on is told at once that nobody is here.
        if let Err(error) = self.link.round_trip().await {
            tracing::debug!(%error, "connection was lost while the query service stopped");
        }
    }

    fn take_off(&mut self) {
        // Stopping the library's service awaits nothing.
        let stopped = self
            .service
            .take()
            .map(|service| service.stop().now_or_never());
        if let Some(Some(Err(error))) = stopped {
            tracing::debug!(%error, "query service was not taken off");
        }
    }
}

impl Drop for QueryService {
    fn drop(&mut self) {
        self.take_off();
    }
}

async fn serve<F, A>(client: &Client, answer: &F, request: &Request)
where
    F: Fn(Query) -> A,
    A: Future<Output = Result<Answer, Rejection>>,
{
    // An answer to any other subject would let the asker write, by our hand, where it may not.
    let inbox = request
        .message
        .reply
        .as_ref()
        .filter(|reply| is_inbox(reply));
    let Some(inbox) = inbox else {
        tracing::warn!("a query that asks for its answer elsewhere than in an inbox is refused");
        return;
    };
    let answered = match serde_json::from_slice::<Query>(&request.message.payload) {
        Ok(query) => answer(query).await,
        Err(error) => Err(Rejection::new(
            Code::MalformedCommand,
            format!("not a query: {}", without_values(&error)),
        )),
    };
    let mut body = json(&answered);
    if body.len() > ANSWER_BYTES_MAX {
        let text = format!(
            "the answer has {} bytes: ask for less at a time",
            body.len()
        );
        body = json(&Err::<Answer, _>(Rejection::new(Code::TooLarge, text)));
    }
    let sent = respond(client, inbox.as_str(), request, body).await;
    if let Err(error) = sent {
        tracing::debug!(%error, "an answer was not sent");
    }
}

/// Sends an answer, in parts when it does not fit a message.
async fn respond(
    client: &Client,
    inbox: &str,
    request: &Request,
    body: Bytes,
) -> Result<(), async_nats::PublishError> {
    let room = client.max_payload().saturating_sub(HEADER_ROOM).max(1);
    if body.len() <= room {
        return request.respond(Ok::<_, ServiceError>(body)).await;
    }
    let parts = body.len().div_ceil(room);
    for part in 1..=parts {
        let bytes = body.slice((part - 1) * room..body.len().min(part * room));
        let mut headers = HeaderMap::new();
        headers.insert(PART, format!("{part}/{parts}"));
        if part < parts {
            client
                .publish_with_headers(inbox.to_owned(), headers, bytes)
                .await?;
        } else {
            request.respond_with_headers(Ok(bytes), headers).await?;
        }
    }
    Ok(())
}
