//! An engine in this process on a real NATS server that syncs every write.

use std::sync::Arc;
use std::time::Duration;

use adapter_functions::{Config, Functions, LauncherConfig, Workers};
use adapter_kit::{Blobs, Commands, Performer, Runner, Submission};
use adapter_osb::Services;
use adapter_vault::{EnvelopeVault, MasterKeys, Sealer};
use anyhow::{Result, bail};
use engine_model::spec::Spec;
use engine_model::{
    Actor, Command, CommandId, InstanceId, Kind, Name, OrgName, Reply, ResourceKey, Role, Seq,
    Status,
};
use engine_runtime::{Fold, Node, NodeConfig};
use engine_stream::testing::TestServer;
use engine_stream::{Client, Connection, JetStream, Settings};
use tempfile::TempDir;
use uuid::Uuid;

/// The word that makes this program a sandbox launcher.
pub(crate) const LAUNCHER: &str = "sandbox-launcher";

/// How long an operation of a benchmark may take.
const WITHIN: Duration = Duration::from_secs(60);

/// An engine and what it stands on.
pub(crate) struct Bed {
    pub(crate) client: Arc<Client>,
    pub(crate) functions: Functions,
    fold: Arc<Fold>,
    vault: Arc<dyn adapter_kit::Vault>,
    blobs: Arc<dyn Blobs>,
    workers: Arc<Workers>,
    node: Option<Node>,
    sealer: Sealer,
    server: TestServer,
    _dir: TempDir,
}

impl Bed {
    pub(crate) async fn start() -> Result<Self> {
        let server = TestServer::start();
        let dir = tempfile::tempdir()?;
        let jetstream = JetStream::open(&server.connection(), Settings::default()).await?;
        let client = Arc::new(jetstream.client(WITHIN).await?);
        let masters = MasterKeys::create(&dir.path().join("master.key"))?;
        let vault: Arc<dyn adapter_kit::Vault> =
            Arc::new(EnvelopeVault::new(masters, Arc::new(jetstream.keys())));
        let sealer = Sealer::parse(&vault.public_key())?;
        let blobs: Arc<dyn Blobs> = Arc::new(jetstream.blobs());
        let functions = functions(&dir, blobs.clone())?;
        let workers = Arc::new(Workers::new(functions.clone(), blobs.clone(), 64));
        let mut bed = Self {
            client,
            functions,
            fold: Arc::default(),
            vault,
            blobs,
            workers,
            node: None,
            sealer,
            server,
            _dir: dir,
        };
        bed.resume().await?;
        Ok(bed)
    }

    /// Starts an engine on the server that is there.
    pub(crate) async fn resume(&mut self) -> Result<()> {
        let jetstream = JetStream::open(&self.connection(), Settings::default()).await?;
        let services = Arc::new(Services::new(self.vault.clone()));
        let performers: Vec<Arc<dyn Performer>> = vec![services, self.workers.clone()];
        let node = Node::start(NodeConfig {
            roles: vec![Role::Engine, Role::Worker],
            log: Arc::new(jetstream),
            vault: self.vault.clone(),
            blobs: self.blobs.clone(),
            runner: Some(self.workers.clone() as Arc<dyn Runner>),
            runs_per_org: 0,
            performers: Box::new(|_| performers),
        })
        .await?;
        self.fold = node.fold();
        self.node = Some(node);
        Ok(())
    }

    /// Ends the engine; the server stays.
    pub(crate) async fn halt(&mut self) {
        if let Some(node) = self.node.take() {
            node.drain().await;
        }
        self.fold = Arc::default();
    }

    pub(crate) fn connection(&self) -> Connection {
        self.server.connection()
    }

    /// The id of an instance at its broker.
    pub(crate) fn instance_id(&self, key: &ResourceKey) -> Option<InstanceId> {
        self.fold.read(|world| world.instance_at_broker(key))
    }

    /// Creates a resource from a document, and returns the position of its commit.
    pub(crate) async fn create(&self, kind: Kind, document: serde_json::Value) -> Result<Seq> {
        let seal = |plain: &[u8]| self.sealer.seal(plain);
        let (name, spec) = engine_model::document::read(kind, document, &seal)?;
        self.submit(key(kind, name.as_str()), spec).await
    }

    pub(crate) async fn submit(&self, key: ResourceKey, spec: Spec) -> Result<Seq> {
        let submission = Submission {
            id: CommandId(Uuid::now_v7()),
            key,
            command: Command::Create(spec),
            actor: Actor("user:bench".into()),
        };
        match self.client.submit(submission).await? {
            Reply::Done { seq, .. } => Ok(seq),
            Reply::Rejected { rejection, .. } => Err(rejection.into()),
        }
    }

    /// Waits until a resource is READY.
    pub(crate) async fn ready(&self, key: &ResourceKey) -> Result<()> {
        tokio::time::timeout(WITHIN, self.ready_at_last(key)).await?
    }

    async fn ready_at_last(&self, key: &ResourceKey) -> Result<()> {
        loop {
            let position = self.fold.position();
            match self.fold.read(|world| world.status(key)) {
                Some((Status::Ready, _)) => return Ok(()),
                Some((Status::Error, reason)) => bail!("{key}: {reason:?}"),
                _ => self.fold.reached(Seq(position.0 + 1)).await,
            }
        }
    }

    /// CPU time so far of this process, its children and the server.
    pub(crate) fn cpu(&self) -> Duration {
        cpu_of(std::process::id()) + cpu_of(self.server.id()) + self.workers_cpu()
    }

    fn workers_cpu(&self) -> Duration {
        harness::descendants(std::process::id())
            .into_iter()
            .filter(|pid| *pid != self.server.id())
            .map(cpu_of)
            .sum()
    }

    pub(crate) async fn stop(mut self) {
        if let Some(node) = self.node.take() {
            node.drain().await;
        }
        self.functions.shutdown(Duration::from_secs(5)).await;
    }
}

/// The host of functions, launched by this program itself.
pub(crate) fn functions(dir: &TempDir, blobs: Arc<dyn Blobs>) -> Result<Functions> {
    let exe = std::env::current_exe()?.display().to_string();
    let launcher = LauncherConfig::new([exe, LAUNCHER.into()]);
    Ok(Functions::start(Config::new(
        dir.path().join("functions"),
        launcher,
        blobs,
    ))?)
}

/// The organization of the benchmarks.
pub(crate) fn org() -> OrgName {
    OrgName::new("bench").expect("it is a name")
}

/// The key of a resource of the benchmarks.
pub(crate) fn key(kind: Kind, name: &str) -> ResourceKey {
    ResourceKey::new(
        org(),
        kind,
        Name::new(name).expect("benchmarks use good names"),
    )
}

/// CPU time of a process: fields 14 and 15 of its `stat`, in ticks of 10 ms.
fn cpu_of(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<u64> = after_name
        .split_whitespace()
        .map(|f| f.parse().unwrap_or(0))
        .collect();
    Duration::from_millis(10 * (fields.get(11).unwrap_or(&0) + fields.get(12).unwrap_or(&0)))
}
