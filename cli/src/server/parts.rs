//! All that a server process runs, put together from its roles and ended in the right order.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use adapter_functions::{Config as FunctionsConfig, Functions, LauncherConfig, Workers};
use adapter_gateway::{Config as GatewayConfig, Gateway, Pair, ensure_certificate};
use adapter_kit::{Blobs, Performer, Runner, Vault};
use adapter_osb::Services;
use adapter_rest::{
    Config as RestConfig, Info as RestInfo, Ports as RestPorts, Server as RestServer, Tls,
};
use adapter_vault::{EnvelopeVault, MasterKeys, Sealer};
use anyhow::{Context, Result, bail};
use engine_model::Role;
use engine_runtime::{MakePerformers, Node, NodeConfig};
use engine_stream::{Client, Connection, JetStream, Log, QueryService};
use projections::Views;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::brokers::Brokers;
use super::builds;
use super::gateway::Endpoints;
use super::home::Home;
use super::invoker::RunInvoker;
use super::queries::Answers;
use super::rest::Accounts;
use super::serving::Serving;
use super::settings::{Ports, Settings};

/// How long a command may take to be decided.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How long workers may take to end what they run.
const WORKERS_DRAIN: Duration = Duration::from_secs(10);

/// Calls that a node takes at once, as many as its functions may have workers by default.
const SLOTS: usize = 64;

/// What a process does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roles {
    pub(crate) engine: bool,
    pub(crate) worker: bool,
    pub(crate) gateway: bool,
    pub(crate) rest: bool,
    pub(crate) views: bool,
}

impl Roles {
    /// All of them.
    pub(crate) fn all() -> Self {
        Self {
            engine: true,
            worker: true,
            gateway: true,
            rest: true,
            views: true,
        }
    }

    /// Reads the words of `--roles`.
    pub(crate) fn read(words: &[String]) -> Result<Self> {
        let mut roles = Self::default();
        for word in words {
            match word.trim() {
                "engine" => roles.engine = true,
                "worker" => roles.worker = true,
                "gateway" => roles.gateway = true,
                "rest" => roles.rest = true,
                "views" => roles.views = true,
                other => {
                    bail!("'{other}' is no role; there are engine, worker, gateway, rest and views")
                }
            }
        }
        Ok(roles)
    }

    fn of_node(&self) -> Vec<Role> {
        let all = [
            (self.engine, Role::Engine),
            (self.worker, Role::Worker),
            (self.gateway, Role::Gateway),
        ];
        all.into_iter()
            .filter_map(|(wanted, role)| wanted.then_some(role))
            .collect()
    }

    fn words(&self) -> Vec<&'static str> {
        let all = [
            (self.engine, "engine"),
            (self.worker, "worker"),
            (self.gateway, "gateway"),
            (self.rest, "rest"),
            (self.views, "views"),
        ];
        all.into_iter()
            .filter_map(|(wanted, word)| wanted.then_some(word))
            .collect()
    }
}

/// What the parts are made from.
pub(crate) struct Plan {
    pub(crate) home: Home,
    pub(crate) settings: Settings,
    pub(crate) ports: Ports,
    pub(crate) connection: Connection,
    pub(crate) roles: Roles,
}

/// The parts at work.
pub(crate) struct Parts {
    node: Node,
    gateway: Option<Arc<OnceLock<Gateway>>>,
    rest: Option<RestServer>,
    queries: Option<QueryService>,
    functions: Option<Functions>,
    jetstream: JetStream,
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    serving: Serving,
    pub(crate) client: Arc<Client>,
    pub(crate) sealer: Sealer,
}

impl Parts {
    /// Starts everything that the roles need.
    pub(crate) async fn start(plan: &Plan) -> Result<Self> {
        let stop = CancellationToken::new();
        let jetstream = JetStream::open(&plan.connection, plan.settings.streams()).await?;
        let log: Arc<dyn Log> = Arc::new(jetstream.clone());
        let blobs: Arc<dyn Blobs> = Arc::new(jetstream.blobs());
        let client = Arc::new(jetstream.client(ANSWER_MAX).await?);
        let masters = MasterKeys::load(&plan.home.master_key())?;
        let vault: Arc<dyn Vault> =
            Arc::new(EnvelopeVault::new(masters, Arc::new(jetstream.keys())));
        let sealer = Sealer::parse(&vault.public_key())?;
        let serving = Serving::start()?;
        let functions = match plan.roles.worker {
            true => {
                let config = functions_config(plan, blobs.clone())?;
                let _entered = serving.handle().enter();
                Some(Functions::start(config)?)
            }
            false => None,
        };
        let workers = functions
            .clone()
            .map(|f| Workers::new(f, blobs.clone(), SLOTS).telling(builds::told(log.clone())));
        let gateway = plan.roles.gateway.then(|| Arc::new(OnceLock::new()));

        let services = Arc::new(Services::new(vault.clone()));
        let performers = performers(services.clone(), workers.clone(), gateway.clone());
        let node = Node::start(NodeConfig {
            roles: plan.roles.of_node(),
            log: log.clone(),
            vault: vault.clone(),
            blobs: blobs.clone(),
            runner: workers.map(|workers| Arc::new(workers) as Arc<dyn Runner>),
            runs_per_org: plan.settings.worker.runs_per_organization.unwrap_or(0),
            performers,
        })
        .await?;

        let mut parts = Self {
            node,
            gateway,
            rest: None,
            queries: None,
            functions,
            jetstream: jetstream.clone(),
            tasks: Vec::new(),
            stop,
            serving,
            client,
            sealer,
        };
        let brokers = Brokers {
            fold: parts.node.fold(),
            services,
        };
        parts
            .start_views(plan, &jetstream, log, vault, brokers)
            .await?;
        parts.start_gateway(plan, blobs.clone()).await?;
        parts.start_rest(plan, blobs).await?;
        Ok(parts)
    }

    async fn start_views(
        &mut self,
        plan: &Plan,
        jetstream: &JetStream,
        log: Arc<dyn Log>,
        vault: Arc<dyn Vault>,
        brokers: Brokers,
    ) -> Result<()> {
        if !plan.roles.views {
            return Ok(());
        }
        let views = Views::open(&plan.home.views())?;
        let (follower, follower_log) = (views.clone(), log.clone());
        let (stop, ended) = (self.stop.clone(), self.node.stopped());
        self.tasks.push(tokio::spawn(async move {
            if let Err(error) = follower.follow(follower_log, stop).await {
                tracing::error!(%error, "views cannot go on");
                ended.cancel();
            }
        }));
        let info = Arc::new(info_document(plan));
        let answers = Answers {
            views,
            log,
            vault,
            info,
            brokers,
        };
        let answer = move |query| {
            let answers = answers.clone();
            async move { answers.answer(query).await }
        };
        self.queries = Some(jetstream.serve_queries(answer).await?);
        Ok(())
    }

    async fn start_gateway(&mut self, plan: &Plan, blobs: Arc<dyn Blobs>) -> Result<()> {
        let Some(cell) = &self.gateway else {
            return Ok(());
        };
        let settings = &plan.settings;
        let mut config = GatewayConfig::new(plan.home.certificates());
        config.http = Some(settings.address(plan.ports.http));
        config.https = Some(settings.address(plan.ports.https));
        config.cert_names.clone_from(&settings.gateway.names);
        if let (Some(cert), Some(key)) = (&settings.gateway.certificate, &settings.gateway.key) {
            config.certificate = Some(Pair {
                cert: cert.clone(),
                key: key.clone(),
            });
        }
        let invoker = Arc::new(RunInvoker {
            runs: self.client.clone(),
            blobs,
            direct: self.node.caller(),
        });
        let started = Gateway::start(config, invoker, self.stop.child_token());
        let gateway = self.serving.handle().spawn(started).await??;
        if cell.set(gateway).is_err() {
            bail!("the gateway was started twice");
        }
        let endpoints = Endpoints::new(self.node.fold(), cell.clone());
        let stop = self.stop.clone();
        self.tasks
            .push(tokio::spawn(async move { endpoints.follow(stop).await }));
        Ok(())
    }

    async fn start_rest(&mut self, plan: &Plan, blobs: Arc<dyn Blobs>) -> Result<()> {
        if !plan.roles.rest {
            return Ok(());
        }
        let sealer = self.sealer.clone();
        let operator = (
            plan.settings.organization.clone(),
            plan.settings.service_account.clone(),
        );
        let accounts = Arc::new(Accounts::new(self.node.fold(), operator));
        let (follower, stop) = (accounts.clone(), self.stop.clone());
        self.tasks
            .push(tokio::spawn(async move { follower.follow(stop).await }));
        let config = RestConfig {
            tls: Some(rest_certificate(plan)?),
            default_org: Some(plan.settings.organization.clone()),
            ..RestConfig::new(plan.settings.address(plan.ports.rest))
        };
        let ports = RestPorts {
            commands: self.client.clone(),
            runs: self.client.clone(),
            queries: self.client.clone(),
            blobs,
            authenticator: accounts.clone(),
            seal: Arc::new(move |plain: &[u8]| sealer.seal(plain)),
            info: RestInfo::of_this_build(),
        };
        self.rest = Some(RestServer::start(config, ports, self.stop.child_token()).await?);
        Ok(())
    }

    /// Cancelled when the node cannot go on.
    pub(crate) fn failed(&self) -> CancellationToken {
        self.node.stopped()
    }

    /// Stops intake, ends what is under way, and says whether that was in time.
    pub(crate) async fn drain(self) -> bool {
        let Self {
            node,
            gateway,
            rest,
            queries,
            functions,
            jetstream,
            tasks,
            stop,
            serving,
            client,
            ..
        } = self;
        info!("draining");
        if let Some(rest) = rest {
            rest.drain().await;
        }
        // Others hold the cell until the node has ended.
        if let Some(gateway) = gateway.as_ref().and_then(|cell| cell.get()) {
            gateway.drain().await;
        }
        if let Some(queries) = queries {
            queries.stop().await;
        }
        let graceful = node.drain().await;
        stop.cancel();
        for task in tasks {
            if task.await.is_err() {
                warn!("a task failed while draining");
            }
        }
        if let Some(functions) = functions {
            functions.shutdown(WORKERS_DRAIN).await;
        }
        drop((client, serving));
        // Acknowledgements on their way would be lost with the connection.
        if let Err(error) = jetstream.flush().await {
            warn!(%error, "the last acknowledgements may come again");
        }
        graceful
    }
}

/// Where `docker login` and its likes keep what they were told.
fn docker_login() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    folder.or(home).map(|folder| folder.join("config.json"))
}

fn functions_config(plan: &Plan, blobs: Arc<dyn Blobs>) -> Result<FunctionsConfig> {
    let exe = std::env::current_exe().context("cannot find this executable")?;
    let launcher = LauncherConfig::new([exe.display().to_string(), "sandbox-launcher".into()]);
    let mut config = FunctionsConfig::new(plan.home.functions(), launcher, blobs);
    let worker = &plan.settings.worker;
    config.packs.clone_from(&worker.packs);
    config
        .images
        .insecure
        .clone_from(&worker.insecure_registries);
    config.images.folders.clone_from(&worker.image_folders);
    config.images.credentials = worker.registry_credentials.clone().or_else(docker_login);
    if cfg!(feature = "wasm") {
        // A program that is nothing else is smaller, and starts in a third of the time.
        let worker = exe.with_file_name("wasm-worker");
        let worker = if worker.is_file() { worker } else { exe };
        config.interpreters.insert("wasm".to_owned(), worker);
    }
    config.interpreters.extend(worker.interpreters.clone());
    for (label, path) in [("python3", &worker.python3), ("nodejs", &worker.nodejs)] {
        if let Some(path) = path {
            config.interpreters.insert(label.to_owned(), path.clone());
        }
    }
    if let Some(hosts) = &worker.build_hosts {
        let endpoints = hosts.iter().map(|host| builds::endpoint(host));
        config.builds.hosts = Some(endpoints.collect::<Result<_>>()?);
    }
    if let Some(max) = worker.workers_max {
        config.pools.workers_max = max.max(1);
    }
    if let Some(mb) = worker.memory_mb {
        config.pools.memory_budget_bytes = mb << 20;
    }
    Ok(config)
}

fn performers(
    services: Arc<Services>,
    workers: Option<Workers>,
    gateway: Option<Arc<OnceLock<Gateway>>>,
) -> MakePerformers {
    Box::new(move |fold| {
        let mut all: Vec<Arc<dyn Performer>> = vec![services];
        if let Some(workers) = workers {
            all.push(Arc::new(workers));
        }
        if let Some(gateway) = gateway {
            all.push(Arc::new(Endpoints::new(fold, gateway)));
        }
        all
    })
}

/// The REST API shows the gateway's certificate, which is made when there is none.
fn rest_certificate(plan: &Plan) -> Result<Tls> {
    let gateway = &plan.settings.gateway;
    if let (Some(certificate), Some(key)) = (&gateway.certificate, &gateway.key) {
        return Ok(Tls {
            cert: certificate.clone(),
            key: key.clone(),
        });
    }
    let pair = ensure_certificate(&plan.home.certificates(), &gateway.names)?;
    Ok(Tls {
        cert: pair.cert,
        key: pair.key,
    })
}

fn info_document(plan: &Plan) -> serde_json::Value {
    let url = |scheme: &str, port: u16| format!("{scheme}://{}", plan.settings.address(port));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "roles": plan.roles.words(),
        "nats": plan.connection.shown(),
        "rest": url("https", plan.ports.rest),
        "apiHttp": url("http", plan.ports.http),
        "apiHttps": url("https", plan.ports.https),
    })
}
