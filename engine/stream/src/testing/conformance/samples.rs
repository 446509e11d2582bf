//! Things to put into a log, and patient ways to get them out.

use std::time::Duration;

use engine_model::spec::ApplicationSpec;
use engine_model::{
    Actor, ApplicationEvent, Cause, CommandId, Commit, Event, Kind, Name, OrgName, ResourceId,
    ResourceKey, Seq, Timestamp,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::time::{Instant, timeout};

use crate::port::{Delivery, Error, Inbox};

/// How long anything may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn org() -> OrgName {
    OrgName::new("acme").expect("a name")
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

pub(super) fn key(text: &str) -> ResourceKey {
    ResourceKey::new(org(), Kind::Application, name(text))
}

pub(super) fn command_id(n: u32) -> CommandId {
    CommandId::derived(format_args!("sample {n}"))
}

/// The commit that sample command `n` brings about on `key`.
pub(super) fn commit(key: &ResourceKey, expected: Seq, n: u32) -> Commit {
    let cause = Cause::Command(command_id(n));
    let id = ResourceId(command_id(n).0);
    let spec = ApplicationSpec {
        tags: [("n".to_owned(), n.to_string())].into(),
    };
    Commit {
        id: Commit::id_for(key, expected, cause),
        key: key.clone(),
        events: vec![Event::Application(ApplicationEvent::Created { id, spec })],
        at: Timestamp(1_700_000_000_000),
        actor: Actor("user:alice".into()),
        cause,
        correlation: command_id(n).to_string(),
    }
}

/// The next deliveries, however often the server is away meanwhile.
pub(super) async fn pull<T>(inbox: &mut dyn Inbox<T>, max: usize) -> Vec<Delivery<T>> {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match timeout(left, inbox.pull(max))
            .await
            .expect("something is delivered in time")
        {
            Ok(deliveries) => return deliveries,
            Err(Error::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

pub(super) async fn pull_one<T>(inbox: &mut dyn Inbox<T>) -> Delivery<T> {
    let mut deliveries = pull(inbox, 1).await;
    assert_eq!(deliveries.len(), 1, "one was asked for");
    deliveries.remove(0)
}

/// That nothing is delivered for a while.
pub(super) async fn nothing<T>(inbox: &mut dyn Inbox<T>, during: Duration) {
    let delivered = timeout(during, inbox.pull(1)).await;
    assert!(
        delivered.is_err(),
        "something was delivered that should not be"
    );
}

pub(super) async fn next<T>(stream: &mut BoxStream<'static, Result<T, Error>>) -> T {
    let item = timeout(PATIENCE, stream.next())
        .await
        .expect("the stream goes on in time");
    item.expect("the stream does not end")
        .expect("the item can be read")
}
