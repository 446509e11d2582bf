//! Following a log, live: what queries see, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use engine_model::*;
use engine_stream::{Error as LogError, Log, Memory, RunAppend};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::fixture::*;
use crate::events::EventFold;
use crate::follow::{Fold, Follower};
use crate::shown::Shown;
use crate::store::{Store, Stream};
use crate::{Error, Limits, Views};

const SOON: Duration = Duration::from_secs(20);

/// Views that follow a log in memory.
struct Node {
    dir: tempfile::TempDir,
    log: Memory,
    views: Views,
    stop: CancellationToken,
    following: JoinHandle<Result<(), Error>>,
}

impl Node {
    async fn start() -> Self {
        Self::with(tempfile::tempdir().unwrap(), Memory::new()).await
    }

    async fn with(dir: tempfile::TempDir, log: Memory) -> Self {
        let views = Views::open(&dir.path().join("views")).unwrap();
        let stop = CancellationToken::new();
        let (own, shared, until) = (views.clone(), Arc::new(log.clone()), stop.clone());
        let following = tokio::spawn(async move { own.follow(shared, until).await });
        while views.log().is_none() {
            tokio::task::yield_now().await;
        }
        Self {
            dir,
            log,
            views,
            stop,
            following,
        }
    }

    /// Stops gracefully; what is left is what is on disk.
    async fn stop(self) -> (tempfile::TempDir, Memory) {
        self.stop.cancel();
        timeout(SOON, self.following)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        (self.dir, self.log)
    }

    async fn play(&self, tape: &Tape) -> Seq {
        play(&self.log, tape).await
    }

    async fn ask(&self, filter: Filter, at_least: Seq) -> Result<Answer, Rejection> {
        ask(&self.views, filter, at_least).await
    }
}

async fn play(log: &Memory, tape: &Tape) -> Seq {
    let mut last = Seq(0);
    for recorded in &tape.0 {
        let expected = log.last(&recorded.commit.key).await.unwrap();
        let expected = expected.map_or(Seq(0), |last| last.seq);
        last = log.append(&recorded.commit, expected).await.unwrap();
    }
    last
}

async fn ask(views: &Views, filter: Filter, at_least: Seq) -> Result<Answer, Rejection> {
    let query = Query {
        org: org(),
        filter,
        at_least,
        runs_at_least: Seq(0),
    };
    timeout(SOON, views.query(query))
        .await
        .expect("a query always ends")
}

fn one(kind: Kind, text: &str) -> Filter {
    Filter::One {
        kind,
        name: name(text),
    }
}

fn all(kind: Kind) -> Filter {
    Filter::All { kind, tag: None }
}

/// A tape of `count` images, `per` events each, whose names begin with `prefix`.
fn images(prefix: &str, count: u32) -> Tape {
    let mut tape = Tape::default();
    for n in 0..count {
        let spec = image_spec();
        tape.image(
            &format!("{prefix}{n}"),
            ImageEvent::Created {
                id: id(prefix),
                spec,
            },
        );
    }
    tape
}

#[tokio::test]
async fn a_query_that_names_a_commit_sees_it() {
    let node = Node::start().await;
    for n in 0..200 {
        let seq = node.play(&images(&format!("i{n}-"), 1)).await;
        let answer = node
            .ask(one(Kind::Image, &format!("i{n}-0")), seq)
            .await
            .unwrap();
        assert!(answer.as_of.seq >= seq);
        assert_eq!(answer.documents.len(), 1);
    }
    node.stop().await;
}

#[tokio::test]
async fn what_is_absent_is_not_found() {
    let node = Node::start().await;
    for kind in [Kind::Image, Kind::ServiceBinding, Kind::Organization] {
        let rejection = node.ask(one(kind, "nobody"), Seq(0)).await.unwrap_err();
        assert_eq!(rejection.code, Code::NotFound);
        assert_eq!(rejection.message, format!("{kind} nobody not found"));
    }
    assert_eq!(
        node.ask(all(Kind::Image), Seq(0)).await.unwrap().documents,
        Vec::<Value>::new()
    );
    let gone = Filter::Run {
        id: RunId::derived(format_args!("x")),
    };
    assert_eq!(
        node.ask(gone, Seq(0)).await.unwrap_err().code,
        Code::NotFound
    );
    let history = Filter::History {
        kind: Kind::Image,
        name: name("nobody"),
    };
    assert_eq!(
        node.ask(history, Seq(0)).await.unwrap_err().code,
        Code::NotFound
    );
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_position_that_is_not_reached_is_refused_and_says_how_far_the_view_is() {
    let node = Node::start().await;
    let seq = node.play(&images("i", 3)).await;
    node.ask(all(Kind::Image), seq).await.unwrap();
    let rejection = node.ask(all(Kind::Image), Seq(99)).await.unwrap_err();
    assert_eq!(rejection.code, Code::Unavailable);
    let said = "the view of events stands at 3 and did not reach 99 within 5s";
    assert_eq!(rejection.message, said);
    // Not by a time-out: the clock is paused, and the disk goes by another.
    node.stop.cancel();
    node.following.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_no_view_shows_is_refused() {
    let node = Node::start().await;
    let history = Filter::History {
        kind: Kind::Run,
        name: name("r"),
    };
    for filter in [all(Kind::Run), one(Kind::Run, "r"), history] {
        let rejection = node.ask(filter, Seq(0)).await.unwrap_err();
        assert_eq!(rejection.code, Code::UnknownKind);
    }
    let letters = Filter::DeadLetters { limit: 1 };
    for filter in [Filter::Info, letters, Filter::Revive { letter: Seq(1) }] {
        assert_eq!(
            node.ask(filter, Seq(0)).await.unwrap_err().code,
            Code::Internal
        );
    }
    node.stop().await;
}

#[tokio::test]
async fn a_tag_chooses_among_all() {
    let node = Node::start().await;
    let seq = node.play(&story()).await;
    let tagged = |tag: &str| Filter::All {
        kind: Kind::Image,
        tag: Some(tag.into()),
    };
    let count = async |tag: &str| node.ask(tagged(tag), seq).await.unwrap().documents.len();
    assert_eq!(
        (count("role=test").await, count("role=other").await),
        (1, 0)
    );
    assert_eq!(
        node.ask(tagged("role"), seq).await.unwrap_err().code,
        Code::InvalidField
    );
    node.stop().await;
}

#[tokio::test]
async fn history_is_told_also_of_what_is_gone() {
    let node = Node::start().await;
    let mut tape = images("i", 1);
    tape.image("i0", ImageEvent::Deleted);
    let seq = node.play(&tape).await;
    assert!(node.ask(one(Kind::Image, "i0"), seq).await.is_err());
    let history = Filter::History {
        kind: Kind::Image,
        name: name("i0"),
    };
    let answer = node.ask(history, seq).await.unwrap();
    let events: Vec<_> = answer
        .documents
        .iter()
        .map(|entry| entry["event"].clone())
        .collect();
    assert_eq!(events, [json!("Created"), json!("Deleted")]);
    assert_eq!(answer.as_of.seq, seq);
    node.stop().await;
}

#[tokio::test]
async fn stopped_views_go_on_where_they_stood() {
    let node = Node::start().await;
    let seq = node.play(&images("a", 50)).await;
    node.ask(all(Kind::Image), seq).await.unwrap();
    let before = node.views.as_of();
    let (dir, log) = node.stop().await;

    let views = Views::open(&dir.path().join("views")).unwrap();
    assert_eq!(
        views.as_of(),
        before,
        "they answer at once, as of where they stood"
    );
    let answer = ask(&views, all(Kind::Image), Seq(0)).await.unwrap();
    assert_eq!(answer.documents.len(), 50);
    drop(views);

    let node = Node::with(dir, log).await;
    let seq = node.play(&images("b", 50)).await;
    let answer = node.ask(all(Kind::Image), seq).await.unwrap();
    assert_eq!(answer.documents.len(), 100);
    node.stop().await;
}

#[tokio::test]
async fn a_rebuild_ends_with_the_same_documents_and_the_views_answer_meanwhile() {
    let node = Node::start().await;
    let seq = node.play(&story()).await;
    let kinds = [
        Kind::Function,
        Kind::Secret,
        Kind::ServiceInstance,
        Kind::API,
    ];
    let mut before = Vec::new();
    for kind in kinds {
        before.push(node.ask(all(kind), seq).await.unwrap().documents);
    }
    let rebuild = tokio::spawn({
        let views = node.views.clone();
        async move { views.rebuild().await }
    });
    while !rebuild.is_finished() {
        let answer = node.ask(all(Kind::Function), seq).await.unwrap();
        assert_eq!(answer.documents, before[0]);
    }
    let rebuilt = rebuild.await.unwrap().unwrap();
    assert!(rebuilt.events.seq >= seq);
    for (kind, before) in kinds.iter().zip(&before) {
        assert_eq!(&node.ask(all(*kind), seq).await.unwrap().documents, before);
    }
    // And it goes on, and survives a restart, in the new tree.
    let seq = node.play(&images("later", 1)).await;
    node.ask(one(Kind::Image, "later0"), seq).await.unwrap();
    node.ask(Filter::Rebuild, Seq(0)).await.unwrap();
    let (dir, log) = node.stop().await;
    let node = Node::with(dir, log).await;
    assert!(node.views.as_of().seq >= seq);
    node.ask(one(Kind::Image, "later0"), Seq(0)).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_rebuild_needs_someone_who_follows() {
    let dir = tempfile::tempdir().unwrap();
    let views = Views::open(&dir.path().join("views")).unwrap();
    let log: Arc<dyn Log> = Arc::new(Memory::new());
    let stop = CancellationToken::new();
    stop.cancel();
    views.follow(log.clone(), stop.clone()).await.unwrap();
    assert!(matches!(
        views.follow(log, stop).await,
        Err(Error::AlreadyFollowing)
    ));
    assert!(matches!(views.rebuild().await, Err(Error::NotFollowing)));
}

#[tokio::test]
async fn a_corrupt_database_is_moved_aside_and_rebuilt() {
    let node = Node::start().await;
    let seq = node.play(&story()).await;
    node.ask(all(Kind::Image), seq).await.unwrap();
    let (dir, log) = node.stop().await;
    let path = dir.path().join("views");
    for file in ["conf", "db"] {
        let mut bytes = std::fs::read(path.join(file)).unwrap();
        let all = bytes.len().min(1 << 16);
        bytes[..all].iter_mut().for_each(|byte| *byte ^= 0x5a);
        std::fs::write(path.join(file), bytes).unwrap();
    }
    let node = Node::with(dir, log).await;
    let answer = node
        .ask(one(Kind::Function, "pg-example"), seq)
        .await
        .unwrap();
    assert_eq!(answer.documents[0]["status"], "READY");
    assert!(node.dir.path().join("views.corrupt-1").is_dir());
    node.stop().await;
}

#[tokio::test]
async fn a_database_that_is_in_use_is_not_called_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Views::open(&dir.path().join("views")).unwrap();
    assert!(matches!(
        Views::open(&dir.path().join("views")),
        Err(Error::Open { .. })
    ));
    assert!(!dir.path().join("views.corrupt-1").exists());
}

#[tokio::test]
async fn a_corrupt_row_has_its_view_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let log = Memory::new();
    play(&log, &images("i", 2)).await;
    // The row lies there before the view reads its first message.
    tree(dir.path(), Stream::Events)
        .insert(b"image/acme/i0", b"garbage".to_vec())
        .unwrap();
    let positions = json!({"image/1": {"seq": 0, "at": 0}}).to_string();
    tree(dir.path(), Stream::Events)
        .insert(b"@positions", positions.as_bytes())
        .unwrap();
    let node = Node::with(dir, log).await;
    assert_eq!(
        node.ask(all(Kind::Image), Seq(2))
            .await
            .unwrap()
            .documents
            .len(),
        2
    );
    node.stop().await;
}

#[tokio::test]
async fn a_message_that_nobody_can_read_stops_the_view_and_is_named() {
    let node = Node::start().await;
    let seq = node.play(&images("i", 2)).await;
    node.ask(all(Kind::Image), seq).await.unwrap();
    let bad = node
        .log
        .publish("dispatch.evt.acme.image.x", &[], b"not json")
        .unwrap();
    let rejection = node.ask(all(Kind::Image), Seq(bad)).await.unwrap_err();
    assert_eq!(rejection.code, Code::Unavailable);
    let expected = "stands at 2 and did not reach 3";
    let named = rejection.message.contains(expected) && rejection.message.contains("message 3");
    assert!(named, "{}", rejection.message);
    node.stop().await;
}

#[tokio::test]
async fn a_runs_record_is_seen_by_who_names_its_end() {
    let node = Node::start().await;
    let (run, function) = (RunId::derived(format_args!("1")), name("f"));
    let body = serde_json::to_vec(&RunCommand {
        input: json!({"n": 1}),
        ..RunCommand::default()
    });
    let subject = subject::run_command(&org(), &function, run);
    node.log.publish(&subject, &[], &body.unwrap()).unwrap();
    let event = RunEvent::Finished {
        result: RunResult {
            output: json!(42),
            ..RunResult::default()
        },
        at: node.log.now(),
        digest: None,
    };
    let (own, expected) = (org(), Seq(0));
    let append = RunAppend {
        org: own,
        function: function.clone(),
        run,
        event,
        expected,
    };
    let seq = node.log.append_run(append).await.unwrap();
    for filter in [
        Filter::Run { id: run },
        Filter::Runs {
            function: Some(function),
            since: None,
            limit: 5,
        },
        Filter::Runs {
            function: None,
            since: Some(Timestamp(START)),
            limit: 5,
        },
    ] {
        let query = Query {
            org: org(),
            filter,
            at_least: Seq(0),
            runs_at_least: seq,
        };
        let answer = timeout(SOON, node.views.query(query))
            .await
            .unwrap()
            .unwrap();
        assert!(answer.as_of.seq >= seq);
        assert_eq!(answer.documents[0]["output"], 42);
        assert_eq!(answer.documents[0]["input"], json!({"n": 1}));
    }
    node.stop().await;
}

/// The views of events over a log whose connection is lost after every seventh message.
struct Flaky(EventFold);

static LOST: AtomicUsize = AtomicUsize::new(0);

#[async_trait]
impl Fold for Flaky {
    type Item = Recorded;
    const STREAM: Stream = Stream::Events;
    const SPACING: Duration = Duration::ZERO;

    fn open(tree: sled::Tree, limits: Limits) -> Result<Self, Error> {
        <EventFold as Fold>::open(tree, limits).map(Self)
    }

    fn fold(&mut self, item: &Recorded) -> Result<(), Error> {
        self.0.fold(item)
    }

    fn commit(&mut self, keep: usize) -> Result<AsOf, Error> {
        self.0.commit(keep)
    }

    fn pending(&self) -> usize {
        self.0.pending()
    }

    fn position(&self) -> AsOf {
        self.0.position()
    }

    fn tree(&self) -> &sled::Tree {
        self.0.tree()
    }

    fn latest(&self) -> Timestamp {
        Fold::latest(&self.0)
    }

    async fn tail(
        log: &dyn Log,
        after: Seq,
    ) -> Result<BoxStream<'static, Result<Recorded, LogError>>, LogError> {
        let lost = LogError::Unavailable("connection lost".into());
        if LOST.fetch_add(1, Ordering::Relaxed) % 3 == 2 {
            return Err(lost);
        }
        let few = log.tail(after).await?.take(7);
        Ok(few.chain(futures::stream::iter([Err(lost)])).boxed())
    }

    async fn oldest(log: Arc<dyn Log>) -> Seq {
        EventFold::oldest(log).await
    }

    fn prune(&mut self, first: Seq) -> Result<usize, Error> {
        self.0.prune(first)
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_log_is_read_again_from_where_the_view_stands() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("views")).unwrap();
    let tree = store.tree(Stream::Events).unwrap();
    let fold = Flaky(EventFold::open(tree.clone()).unwrap());
    let as_of = fold.position();
    let shown = watch::Sender::new(Shown {
        tree: tree.clone(),
        as_of,
        trouble: None,
    });
    let (_requests, inbox) = mpsc::channel(1);
    let log = Memory::new();
    let seq = play(&log, &story()).await;
    let stop = CancellationToken::new();
    let follower = Follower::new(
        store,
        Arc::new(log),
        Limits::default(),
        shown.clone(),
        inbox,
        fold,
    );
    let following = tokio::spawn(follower.run(stop.clone()));
    let mut seen = shown.subscribe();
    let reached = seen.wait_for(|shown| shown.as_of.seq >= seq);
    timeout(Duration::from_secs(600), reached)
        .await
        .unwrap()
        .unwrap();
    stop.cancel();
    following.await.unwrap();
    assert!(LOST.load(Ordering::Relaxed) > 3);
    assert_eq!(dump(&tree), House::of(&story()).dump());
}

#[test]
fn a_database_that_is_let_go_of_a_moment_later_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("views");
    let first = Views::open(&path).unwrap();
    let last_user = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(first);
    });
    Views::open(&path).expect("it is free soon");
    last_user.join().unwrap();
}
