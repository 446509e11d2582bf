//! A connection to a Dispatch: NATS where it is reachable, REST where only that is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use adapter_kit::{Blobs, ClientError, Commands, Digest, Queries, RunTicket, Runs, Submission};
use adapter_vault::Sealer;
use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use engine_model::{
    Actor, Answer, Command, CommandId, Filter, Kind, LogLine, Name, OrgName, Query, Recorded,
    Reply, ResourceKey, RunCommand, RunId, Seq,
};
use engine_stream::{Auth, Client, Connection as NatsConnection};
use futures::stream::BoxStream;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::RestClient;
use crate::args::Global;
use crate::config::{ClientConfig, home};

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Lines as they are printed, with the run that printed them.
pub type LogLines = BoxStream<'static, (RunId, LogLine)>;

const NOT_OVER_REST: &str =
    "lines are told over NATS only while they are printed, and this connection is over REST";

/// A connection, and in whose name it is used.
pub struct Connection {
    /// The organization to work in.
    pub org: OrgName,
    actor: Actor,
    commands: Arc<dyn Commands>,
    runs: Arc<dyn Runs>,
    queries: Arc<dyn Queries>,
    blobs: Option<Arc<dyn Blobs>>,
    nats: Option<Arc<Client>>,
    public_key: OnceCell<String>,
}

/// Connects as the flags, the environment and the configuration file say, in this order.
///
/// # Errors
/// When neither NATS nor REST can be reached, with what to do about it.
pub async fn connect(global: &Global) -> Result<Connection> {
    let (path, mut config) = read(global)?;
    overlay(&mut config, global);
    let org = match config.organization.as_str() {
        "" => "dispatch",
        org => org,
    };
    let org = OrgName::new(org)?;
    let actor = actor(&config);
    if !config.nats_url.is_empty() && config.nats_url != "none" {
        match nats(&config, &path, global.answer_within()).await {
            Ok(client) => return Ok(over_nats(org, actor, Arc::new(client))),
            // Through a firewall that lets only the REST API pass, that is the way.
            Err(_) if global.nats.is_none() && answers(&config).await => {}
            Err(error) => return Err(error),
        }
    }
    if config.host.is_empty() || config.port == 0 {
        bail!(
            "no Dispatch is configured in {}; start one with 'dispatch up', or name one with \
             --host and --port or --nats",
            path.display()
        );
    }
    let client = Arc::new(RestClient::new(&config, &path, global.answer_within())?);
    Ok(Connection {
        org,
        actor,
        commands: client.clone(),
        runs: client.clone(),
        queries: client,
        blobs: None,
        nats: None,
        public_key: OnceCell::new(),
    })
}

/// Adds the language packs that the flags, the environment or the configuration file name, so
/// that their sources and templates are known.
///
/// # Errors
/// When they cannot be read.
pub fn add_packs(global: &Global) -> Result<()> {
    let (path, config) = read(global)?;
    let folder = match (&global.packs, config.packs.as_str()) {
        (Some(folder), _) => folder.clone(),
        (None, "") => return Ok(()),
        (None, folder) => beside(&path, folder),
    };
    let added = adapter_functions::add_packs(&folder);
    added
        .map(drop)
        .map_err(|reason| anyhow!("cannot read the language packs: {reason}"))
}

fn read(global: &Global) -> Result<(PathBuf, ClientConfig)> {
    let path = match &global.config {
        Some(path) => path.clone(),
        None => home()?.join("config.json"),
    };
    let config = ClientConfig::read(&path)?;
    Ok((path, config))
}

fn over_nats(org: OrgName, actor: Actor, client: Arc<Client>) -> Connection {
    Connection {
        org,
        actor,
        commands: client.clone(),
        runs: client.clone(),
        queries: client.clone(),
        blobs: Some(Arc::new(client.blobs())),
        nats: Some(client),
        public_key: OnceCell::new(),
    }
}

/// Whether something listens where the REST API should.
async fn answers(config: &ClientConfig) -> bool {
    let connecting = TcpStream::connect((config.host.as_str(), config.port));
    let listens = tokio::time::timeout(CONNECT_MAX, connecting).await;
    !config.host.is_empty() && config.port != 0 && matches!(listens, Ok(Ok(_)))
}

fn overlay(config: &mut ClientConfig, global: &Global) {
    // Who names a REST server means it, and not the NATS server of the file.
    if global.host.is_some() || global.port.is_some() || global.scheme.is_some() {
        config.nats_url.clear();
    }
    let set = |field: &mut String, flag: &Option<String>| {
        if let Some(value) = flag {
            field.clone_from(value);
        }
    };
    set(&mut config.host, &global.host);
    set(&mut config.scheme, &global.scheme);
    set(&mut config.organization, &global.organization);
    set(&mut config.token, &global.token);
    set(&mut config.nats_url, &global.nats);
    config.port = global.port.unwrap_or(config.port);
    config.insecure |= global.insecure;
}

/// Who is at work, for the record: the service account, else the login name.
fn actor(config: &ClientConfig) -> Actor {
    if !config.service_account.is_empty() {
        return Actor::from_header(&format!("account:{}", config.service_account));
    }
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    Actor::from_header(&format!("user:{}", user.as_deref().unwrap_or("unknown")))
}

async fn nats(config: &ClientConfig, path: &Path, within: Duration) -> Result<Client> {
    let mut server = NatsConnection::to(&config.nats_url).named("dispatch-cli");
    if !config.nats_credentials.is_empty() {
        let file = beside(path, &config.nats_credentials);
        server = server.with_auth(read_credentials(&file)?);
    }
    let connecting = Client::connect(&server, within);
    let what = || {
        format!(
            "cannot reach NATS at {}; is 'dispatch up' running? (--nats none uses REST)",
            config.nats_url
        )
    };
    let connected = tokio::time::timeout(CONNECT_MAX, connecting).await;
    match connected {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => {
            Err(anyhow!(ClientError::Unreachable(error.to_string()))).with_context(what)
        }
        Err(_) => Err(anyhow!(ClientError::Timeout(CONNECT_MAX))).with_context(what),
    }
}

/// Reads a 0600 file with `{"username":…,"password":…}`.
///
/// # Errors
/// When it cannot be read.
pub fn read_credentials(file: &Path) -> Result<Auth> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    // The parser's own text could quote the password.
    let value: Value = serde_json::from_str(&text).map_err(|_| {
        anyhow!(
            "{} is not {{\"username\":…,\"password\":…}}",
            file.display()
        )
    })?;
    let field = |name: &str| value[name].as_str().map(str::to_owned);
    match (field("username"), field("password")) {
        (Some(user), Some(password)) => Ok(Auth::Password { user, password }),
        _ => bail!("{} lacks 'username' or 'password'", file.display()),
    }
}

/// A path of the configuration file is relative to the file.
pub(super) fn beside(config: &Path, path: &str) -> PathBuf {
    config
        .parent()
        .map_or_else(|| PathBuf::from(path), |dir| dir.join(path))
}

impl Connection {
    /// The key of a resource in this organization.
    ///
    /// # Errors
    /// When `name` is no name.
    pub fn key(&self, kind: Kind, name: &str) -> Result<ResourceKey> {
        Ok(ResourceKey::new(self.org.clone(), kind, Name::new(name)?))
    }

    /// Submits a command and returns the position of its commit.
    ///
    /// # Errors
    /// The server's refusal, or that it did not answer.
    pub async fn submit(&self, key: ResourceKey, command: Command) -> Result<Seq> {
        let id = CommandId(Uuid::now_v7());
        let submission = Submission {
            id,
            key,
            command,
            actor: self.actor.clone(),
        };
        match self.commands.submit(submission).await? {
            Reply::Done { seq, .. } => Ok(seq),
            Reply::Rejected { rejection, .. } => Err(ClientError::Rejected(rejection).into()),
        }
    }

    /// Asks the views.
    ///
    /// # Errors
    /// The server's refusal, or that it did not answer.
    pub async fn query(&self, filter: Filter, at_least: Seq) -> Result<Answer, ClientError> {
        let query = Query {
            org: self.org.clone(),
            filter,
            at_least,
            runs_at_least: Seq(0),
        };
        self.queries.query(query).await
    }

    /// One document.
    ///
    /// # Errors
    /// `not-found`, or that the server did not answer.
    pub async fn one(&self, kind: Kind, name: &Name, at_least: Seq) -> Result<Value, ClientError> {
        let filter = Filter::One {
            kind,
            name: name.clone(),
        };
        let mut answer = self.query(filter, at_least).await?;
        answer
            .documents
            .pop()
            .ok_or_else(|| ClientError::Unreachable("the server answered with no document".into()))
    }

    /// Starts a run, and waits for its end when `wait` says how long.
    ///
    /// # Errors
    /// The server's refusal, or that it did not answer.
    pub async fn run(
        &self,
        function: &Name,
        command: RunCommand,
        wait: Option<Duration>,
    ) -> Result<(RunId, RunTicket), ClientError> {
        let id = self.run_id(function, &command)?;
        let ticket = self.run_as(id, function, command, wait).await?;
        Ok((id, ticket))
    }

    /// Starts a run whose id is known before, so that one can listen for what it prints.
    ///
    /// # Errors
    /// The server's refusal, or that it did not answer.
    pub async fn run_as(
        &self,
        id: RunId,
        function: &Name,
        command: RunCommand,
        wait: Option<Duration>,
    ) -> Result<RunTicket, ClientError> {
        let actor = self.actor.clone();
        self.runs
            .run(id, &self.org, function, command, actor, wait)
            .await
    }

    /// The lines that runs of a function print from now on, or those of one run.
    ///
    /// # Errors
    /// When the connection is not over NATS, or lost.
    pub async fn follow_logs(&self, function: &Name, run: Option<RunId>) -> Result<LogLines> {
        let client = self.nats.as_ref().context(NOT_OVER_REST)?;
        Ok(client.follow_logs(&self.org, function, run).await?)
    }

    /// The lines that builds of an image print from now on.
    ///
    /// # Errors
    /// When the connection is not over NATS, or lost.
    pub async fn follow_build(&self, image: &Name) -> Result<BoxStream<'static, LogLine>> {
        let client = self.nats.as_ref().context(NOT_OVER_REST)?;
        Ok(client.follow_build(&self.org, image).await?)
    }

    /// What the object store has under a digest.
    ///
    /// # Errors
    /// When the connection is not over NATS, or it is not there.
    pub async fn blob(&self, digest: &str) -> Result<Bytes> {
        let blobs = self.blobs.as_ref().context(
            "this is read from the object store over NATS, and this connection is over REST",
        )?;
        let digest = Digest::parse(digest).context("it is no digest")?;
        Ok(blobs.get(&digest).await?)
    }

    /// The id of the run that a command starts: its key's, or a new one.
    ///
    /// # Errors
    /// `Rejected` when the key cannot be used.
    pub fn run_id(&self, function: &Name, command: &RunCommand) -> Result<RunId, ClientError> {
        let id = RunId(Uuid::now_v7());
        Ok(command.run_id(id, &self.org, function)?)
    }

    /// Asks for the end of a run.
    ///
    /// # Errors
    /// The server's refusal, or that it did not answer.
    pub async fn cancel(&self, id: RunId, function: &Name) -> Result<Seq, ClientError> {
        let actor = self.actor.clone();
        self.runs.cancel(id, &self.org, function, actor).await
    }

    /// A run's record, as it is at `at_least` or later.
    ///
    /// # Errors
    /// `not-found`, or that the server did not answer.
    pub async fn one_run(&self, id: RunId, at_least: Seq) -> Result<Value, ClientError> {
        let query = Query {
            org: self.org.clone(),
            filter: Filter::Run { id },
            at_least: Seq(0),
            runs_at_least: at_least,
        };
        let mut answer = self.queries.query(query).await?;
        answer
            .documents
            .pop()
            .ok_or_else(|| ClientError::Unreachable("the server answered with no document".into()))
    }

    /// The blob store, where the connection reaches it.
    #[must_use]
    pub fn blobs(&self) -> Option<&Arc<dyn Blobs>> {
        self.blobs.as_ref()
    }

    /// Each commit of a resource from now on, where the connection sees them; nothing else.
    ///
    /// # Errors
    /// That the server cannot be reached.
    pub async fn watch(
        &self,
        key: &ResourceKey,
    ) -> Result<Option<BoxStream<'static, Recorded>>, ClientError> {
        match &self.nats {
            Some(client) => client.watch_events(key).await.map(Some),
            None => Ok(None),
        }
    }

    /// What seals secrets to the server's public key.
    ///
    /// # Errors
    /// When the server does not tell its key.
    pub async fn sealer(&self) -> Result<Sealer> {
        let text = self
            .public_key
            .get_or_try_init(|| self.ask_public_key())
            .await?;
        Ok(Sealer::parse(text)?)
    }

    async fn ask_public_key(&self) -> Result<String> {
        let info = self.query(Filter::Info, Seq(0)).await?;
        let key = info
            .documents
            .first()
            .and_then(|info| info["publicKey"].as_str());
        key.map(str::to_owned)
            .context("the server does not tell its public key")
    }
}
