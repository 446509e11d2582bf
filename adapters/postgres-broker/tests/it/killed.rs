//! A broker process that is killed at everything that it tells PostgreSQL, on both sides of it, and
//! right after everything that it stores; and what the next one makes of it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use std::time::Duration;

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    BrokerProcess, LARGE, PLANS, Platform, SMALL, SharedServer, Side, Wire, connect, ids,
    instance_body, plans_config,
};

const LATER: &str = "accepts_incomplete=true";

/// When a broker is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// At what it sends as the so manieth thing.
    Sent(u32, Side),
    /// When it has stored the record for the so manieth time: intent, then outcome.
    Stored(u32),
}

/// A request that begins an operation.
#[derive(Clone)]
struct Request {
    method: Method,
    path: String,
    body: Value,
    /// What is polled.
    resource: String,
}

struct Scene {
    server: SharedServer,
    wire: Wire,
    state: TempDir,
    broker: Option<BrokerProcess>,
    kills: usize,
}

impl Scene {
    async fn set() -> Self {
        let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
        let wire = Wire::to(server.port()).await;
        // Both plans have the same extensions, so that one can go back; no plan asks for a server.
        plans_config(state.path(), &server, |text| {
            let text = text.replace("extensions: [citext]", "extensions: [citext, pg_trgm]");
            text.split("      - name: expiring")
                .next()
                .unwrap()
                .to_owned()
        });
        let url = server
            .url()
            .replace(&format!(":{}/", server.port()), &format!(":{}/", wire.port));
        std::fs::write(state.path().join("server-url"), url).unwrap();
        Self {
            server,
            wire,
            state,
            broker: None,
            kills: 0,
        }
    }

    async fn platform(&mut self) -> Platform {
        if self.broker.is_none() {
            self.broker = Some(BrokerProcess::start(self.state.path()).await);
        }
        self.broker.as_ref().unwrap().platform.clone()
    }

    /// How many things the broker sends for an operation.
    async fn sends(&mut self, request: &Request) -> u32 {
        let platform = self.platform().await;
        let pid = self.broker.as_ref().unwrap().pid();
        self.wire.set(pid, u32::MAX, Side::Before);
        assert!(drive(&platform, request).await);
        self.wire.take().0
    }

    /// Carries out an operation during which the broker is killed, then asks the next broker for
    /// the same again, as a platform does that does not know.
    async fn survive(&mut self, instance: &str, request: &Request, moment: Option<&Moment>) {
        let platform = self.platform().await;
        let broker = self.broker.as_mut().unwrap();
        let mut watch = None;
        match moment {
            None => {}
            Some(Moment::Sent(number, side)) => self.wire.set(broker.pid(), *number, *side),
            Some(Moment::Stored(number)) => {
                let record = self.state.path().join(format!("instances/{instance}.json"));
                watch = Some(Watch::set(&record, broker.pid(), *number));
            }
        }
        let mut ended = drive(&platform, request).await;
        if self.wire.take().1 || watch.is_some_and(Watch::take) {
            crate::support::eventually_mut("the broker is dead", || broker.has_ended()).await;
            self.broker = None;
            self.kills += 1;
            let platform = self.platform().await;
            ended = drive(&platform, request).await;
        }
        assert!(ended, "{moment:?} {} {}", request.method, request.path);
    }

    /// Whether it has been killed so many times. Now and then two things are sent as one, and an
    /// operation ends before its last moment comes.
    fn has_killed(&self, expected: usize) {
        let kills = self.kills;
        assert!(kills * 4 >= expected * 3, "{kills} of {expected}");
    }
}

/// Begins an operation and polls it to its end; `false` if the broker died over it.
async fn drive(platform: &Platform, request: &Request) -> bool {
    let path = format!("{}{LATER}", request.path);
    let sent = platform
        .request(request.method.clone(), &path)
        .json(&request.body);
    let Some(reply) = platform.try_check(sent).await else {
        return false;
    };
    match (reply.status, &request.method) {
        (200 | 201, _) => return true,
        (410, &Method::DELETE) => return true,
        (202, _) => {}
        _ => panic!("{path}: {reply:?}"),
    }
    let operation = reply.operation();
    let poll = format!(
        "/v2/service_instances/{}/last_operation?operation={operation}",
        request.resource
    );
    loop {
        let sent = platform.request(Method::GET, &poll);
        let Some(reply) = platform.try_check(sent).await else {
            return false;
        };
        match (reply.status, reply.body["state"].as_str()) {
            (200, Some("in progress")) => tokio::time::sleep(Duration::from_millis(10)).await,
            (200, Some("succeeded")) | (410, _) => return true,
            _ => panic!("{poll}: {reply:?}"),
        }
    }
}

/// Looks at a file all the time, and kills a process when the file has been replaced so many times.
struct Watch {
    thread: std::thread::JoinHandle<bool>,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Watch {
    fn set(file: &Path, pid: Pid, mut number: u32) -> Self {
        use std::sync::atomic::{AtomicBool, Ordering};
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let (file, stopped) = (file.to_owned(), std::sync::Arc::clone(&stop));
        let version = move || {
            let found = std::fs::metadata(&file).ok();
            found.map(|found| (found.ino(), found.mtime_nsec()))
        };
        let mut seen = version();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let now = version();
                if now != seen {
                    seen = now;
                    number -= 1;
                    if number == 0 {
                        let _ = kill_process(pid, Signal::KILL);
                        return true;
                    }
                }
                std::thread::yield_now();
            }
            false
        });
        Self { thread, stop }
    }

    fn take(self) -> bool {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// The moments at which an operation is killed that sends so many things: before each of them, after
/// the last one, and after each time that it stores its record. The second to the fourth thing are a
/// handshake, which does nothing that the first one does not.
fn moments(sends: u32) -> Vec<Moment> {
    [1].into_iter()
        .chain(5..=sends)
        .map(|number| Moment::Sent(number, Side::Before))
        .chain([Moment::Sent(sends, Side::After)])
        .chain([Moment::Stored(1), Moment::Stored(2)])
        .collect()
}

fn instance(id: &str) -> String {
    format!("/v2/service_instances/{id}")
}

fn provision(id: &str) -> Request {
    Request {
        method: Method::PUT,
        path: format!("{}?", instance(id)),
        body: instance_body(PLANS, SMALL),
        resource: id.to_owned(),
    }
}

fn update(id: &str, plan: &str) -> Request {
    Request {
        method: Method::PATCH,
        path: format!("{}?", instance(id)),
        body: json!({ "service_id": PLANS, "plan_id": plan }),
        resource: id.to_owned(),
    }
}

fn bind(id: &str, binding: &str, predecessor: Option<&str>) -> Request {
    Request {
        method: Method::PUT,
        path: format!("{}/service_bindings/{binding}?", instance(id)),
        body: json!({
            "service_id": PLANS, "plan_id": SMALL, "predecessor_binding_id": predecessor,
        }),
        resource: format!("{id}/service_bindings/{binding}"),
    }
}

fn delete(resource: String) -> Request {
    Request {
        method: Method::DELETE,
        path: format!("/v2/service_instances/{resource}?{}&", ids(PLANS, SMALL)),
        body: json!({}),
        resource,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_at_any_step_of_provision_and_deprovision_leaves_it_whole() {
    let mut scene = Scene::set().await;
    let (create, end) = (provision("i"), delete("i".to_owned()));
    let creating = moments(scene.sends(&create).await);
    let ending = moments(scene.sends(&end).await);
    for index in 0..creating.len().max(ending.len()) {
        let moment = creating.get(index);
        scene.survive("i", &create, moment).await;
        let fetched = scene.platform().await.get(&instance("i")).await;
        assert_eq!(
            (fetched.status, &fetched.body["plan_id"]),
            (200, &json!(SMALL))
        );
        let objects = scene.server.objects().await;
        assert_eq!(objects.len(), 2, "{moment:?} {objects:?}");
        let moment = ending.get(index);
        scene.survive("i", &end, moment).await;
        let objects = scene.server.objects().await;
        assert!(objects.is_empty(), "{moment:?} {objects:?}");
    }
    scene.has_killed(creating.len() + ending.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_at_any_step_of_an_update_has_the_new_plan_in_the_end() {
    let mut scene = Scene::set().await;
    scene.platform().await.provision_plan("i", SMALL).await;
    let updating = moments(scene.sends(&update("i", LARGE)).await);
    let plans = [(SMALL, 10), (LARGE, 50)].into_iter().cycle();
    for (moment, (plan, connections)) in updating.iter().zip(plans) {
        scene.survive("i", &update("i", plan), Some(moment)).await;
        let fetched = scene.platform().await.get(&instance("i")).await;
        assert_eq!(fetched.body["plan_id"], plan, "{moment:?}");
        let sql = "SELECT datconnlimit FROM pg_database WHERE datname LIKE 'dispatch%'";
        let admin = scene.server.admin().await;
        let limit: i32 = admin.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(limit, connections, "{moment:?}");
    }
    scene.has_killed(updating.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_at_any_step_of_bind_rotate_and_unbind_loses_and_doubles_nothing() {
    let mut scene = Scene::set().await;
    scene.platform().await.provision_plan("i", SMALL).await;
    let first = bind("i", "old", None);
    let rotate = bind("i", "new", Some("old"));
    let unbind = delete("i/service_bindings/old".to_owned());
    let binding = moments(scene.sends(&first).await);
    let rotating = moments(scene.sends(&rotate).await);
    let unbinding = moments(scene.sends(&unbind).await);
    for index in 0..binding.len().max(rotating.len()).max(unbinding.len()) {
        scene.survive("i", &first, binding.get(index)).await;
        scene.survive("i", &rotate, rotating.get(index)).await;
        let platform = scene.platform().await;
        let mut uris = Vec::new();
        for request in [&first, &rotate] {
            let repeated = platform.put(&request.path, &request.body).await;
            assert_eq!(repeated.status, 200, "{index} {repeated:?}");
            let fetched = platform.get(request.path.trim_end_matches('?')).await;
            assert_eq!(repeated.uri(), fetched.uri(), "{index}");
            connect(&fetched.uri()).await.unwrap();
            uris.push(fetched.uri());
        }
        assert_eq!(scene.server.objects().await.len(), 4, "{index}");
        scene.survive("i", &unbind, unbinding.get(index)).await;
        assert!(connect(&uris[0]).await.is_err(), "{index}");
        connect(&uris[1]).await.unwrap();
        let platform = scene.platform().await;
        let unbound = platform.unbind("i", "new", PLANS, SMALL).await;
        assert_eq!(unbound.word(), "200", "{index}");
        assert_eq!(scene.server.objects().await.len(), 2, "{index}");
    }
    scene.has_killed(binding.len() + rotating.len() + unbinding.len());
}
