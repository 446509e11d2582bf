//! A node: any number of roles on one log, equal to every other node with the same roles.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use adapter_kit::{Blobs, Performer, Runner, Unquestioned, Vault};
use engine_core::loads;
use engine_model::{Effect, EffectId, Role};
use engine_stream::{Error, Log};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::clock::now;
use crate::fold::{Fold, FoldError};
use crate::hands::Hands;
use crate::ledger::Ledger;
use crate::runs::Caller;
use crate::schedules::Schedules;
use crate::task::{Kind, Tasks};
use crate::{alarms, commands, polls, reactor, runs, sweep};

/// How long a node may take to fold what the stream holds already, before it says that it cannot.
const CATCH_UP_MAX: Duration = Duration::from_secs(600);

/// Makes the adapters of a node once its world is folded.
pub type MakePerformers = Box<dyn FnOnce(Arc<Fold>) -> Vec<Arc<dyn Performer>> + Send>;

/// What a node is made of.
pub struct NodeConfig {
    /// What it does.
    pub roles: Vec<Role>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Opens and closes secrets.
    pub vault: Arc<dyn Vault>,
    /// Keeps large bytes.
    pub blobs: Arc<dyn Blobs>,
    /// Runs functions; needed by the role `worker`.
    pub runner: Option<Arc<dyn Runner>>,
    /// Runs of one organization that a worker carries out at once; 0 is no limit.
    pub runs_per_org: usize,
    /// Adapters that need to look at the world are made once it is there.
    pub performers: MakePerformers,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] Error),
    /// What is stored cannot be folded.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The event stream could not be read to its end in time.
    #[error("the event stream could not be folded within {CATCH_UP_MAX:?}")]
    Slow,
    /// A worker has nothing to run functions with.
    #[error("the role 'worker' needs a runner")]
    NoRunner,
}

/// A node at work.
pub struct Node {
    fold: Arc<Fold>,
    tasks: Tasks,
    stop: CancellationToken,
    caller: Option<Caller>,
}

impl Node {
    /// Folds the stream, then takes up its roles.
    ///
    /// # Errors
    /// `NodeError`; nothing was performed then.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let NodeConfig {
            roles,
            log,
            vault,
            blobs,
            runner,
            runs_per_org,
            performers,
        } = config;
        let stop = CancellationToken::new();
        let fold = Arc::new(Fold::default());
        let mut tasks = Tasks::new(stop.clone());
        catch_up(&log, &fold, &mut tasks, &stop).await?;

        let (ledger, desk) = Ledger::new(log.clone(), fold.clone(), stop.clone());
        tasks.spawn(Kind::Essential, "ledger", desk);
        let performers = performers(fold.clone());
        if roles.contains(&Role::Worker) {
            let work = warm_up(fold.clone(), performers.clone(), stop.clone());
            tasks.spawn(Kind::Finite, "warm-up", work);
        }
        let (polls, waiting) = polls::queue();
        let hands = Arc::new(Hands::new(
            log.clone(),
            ledger.clone(),
            vault.clone(),
            performers,
            fold.clone(),
            polls,
        ));
        let work = polls::work(waiting, fold.clone(), hands.clone(), stop.clone());
        tasks.spawn(Kind::Essential, "polls", work);
        for role in roles.iter().copied() {
            let work = reactor::work(role, log.clone(), fold.clone(), hands.clone(), stop.clone());
            tasks.spawn(Kind::Essential, "reactor", work);
        }
        if roles.contains(&Role::Engine) {
            let own = Schedules::new(log.clone(), fold.clone(), ledger.clone(), Arc::new(now));
            let own = Arc::new(own);
            let work = commands::work(log.clone(), ledger, vault.clone(), stop.clone());
            tasks.spawn(Kind::Essential, "commands", work);
            let (alarms_log, alarms_fold) = (log.clone(), fold.clone());
            let (alarms_hands, alarms_stop) = (hands.clone(), stop.clone());
            let work = alarms::work(
                alarms_log,
                alarms_fold,
                alarms_hands,
                own.clone(),
                alarms_stop,
            );
            tasks.spawn(Kind::Essential, "alarms", work);
            tasks.spawn(Kind::Essential, "schedules", own.sweep(stop.clone()));
        }
        let mut caller = None;
        if roles.contains(&Role::Worker) {
            let runner = runner.ok_or(NodeError::NoRunner)?;
            let intake = runs::intake(runner.slots());
            let bench = Arc::new(runs::Bench {
                log: log.clone(),
                fold: fold.clone(),
                vault,
                blobs,
                runner,
                runs_per_org,
                gate: runs::Gate::default(),
                in_hand: runs::InHand::default(),
                intake,
                stop: stop.clone(),
            });
            caller = Some(Caller::new(bench.clone()));
            let work = runs::tidy::work(bench.clone(), stop.clone());
            tasks.spawn(Kind::Essential, "tidy", work);
            let work = runs::cancel::listen(bench.clone(), stop.clone());
            tasks.spawn(Kind::Essential, "cancel signals", work);
            let work = runs::cancel::work(bench.clone(), stop.clone());
            tasks.spawn(Kind::Essential, "cancels", work);
            let work = runs::limits::work(bench.clone(), stop.clone());
            tasks.spawn(Kind::Essential, "limits", work);
            let work = runs::overdue::work(bench.clone(), stop.clone());
            tasks.spawn(Kind::Essential, "overdue runs", work);
            let work = runs::waiting::work(bench.clone(), stop.clone());
            tasks.spawn(Kind::Essential, "waiting runs", work);
            tasks.spawn(Kind::Essential, "runs", runs::work(bench, stop.clone()));
        }
        let work = sweep::work(roles, fold.clone(), hands, stop.clone());
        tasks.spawn(Kind::Essential, "sweep", work);
        Ok(Self {
            fold,
            tasks,
            stop,
            caller,
        })
    }

    /// The world as this node has folded it.
    #[must_use]
    pub fn fold(&self) -> Arc<Fold> {
        self.fold.clone()
    }

    /// Calls functions on this node without a run; none without the role `worker`.
    #[must_use]
    pub fn caller(&self) -> Option<Caller> {
        self.caller.clone()
    }

    /// Cancelled when the node stops, of its own or because it was told to.
    #[must_use]
    pub fn stopped(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Takes in nothing more, and ends what is under way. `true` when that was in time.
    pub async fn drain(self) -> bool {
        self.tasks.drain().await
    }
}

/// Follows the stream, and returns when all that it held at the start is folded.
async fn catch_up(
    log: &Arc<dyn Log>,
    fold: &Arc<Fold>,
    tasks: &mut Tasks,
    stop: &CancellationToken,
) -> Result<(), NodeError> {
    let head = log.head().await?;
    let (follower, follower_log, follower_stop) = (fold.clone(), log.clone(), stop.clone());
    tasks.spawn(Kind::Essential, "fold", async move {
        follower.follow(follower_log.as_ref(), follower_stop).await
    });
    tokio::select! {
        reached = tokio::time::timeout(CATCH_UP_MAX, fold.reached(head)) => {
            reached.map_err(|_| NodeError::Slow)?;
        }
        () = stop.cancelled() => return Err(NodeError::Slow),
    }
    info!(head = %head, "event stream folded");
    Ok(())
}

/// Loads what is serving, so that the first run after a start does not wait for it. What cannot be
/// loaded is loaded when it is called, and says then what is wrong.
async fn warm_up(
    fold: Arc<Fold>,
    performers: Vec<Arc<dyn Performer>>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    for (key, load) in fold.read(loads) {
        let effect = Effect::LoadFunction((*load).clone());
        let Some(performer) = performers.iter().find(|adapter| adapter.performs(&effect)) else {
            return Ok(());
        };
        let id = EffectId {
            seq: fold.read(|world| world.last_seq(&key)),
            index: 0,
        };
        tokio::select! {
            // The outcome is on record already.
            _ = performer.perform(id, &key, &effect, &Unquestioned) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
    Ok(())
}
