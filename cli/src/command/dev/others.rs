//! Shows the runs of a function that others began.

use std::collections::HashSet;
use std::time::Duration;

use engine_model::{Filter, Name, RunId, Seq};
use projections::RunDocument;
use tokio::time::{Instant, sleep_until};

use crate::client::Connection;
use crate::command::report;
use crate::output::note;

/// How often they are looked for.
const EVERY: Duration = Duration::from_secs(1);

/// How many are looked at; more than these in one interval are not shown.
const RUNS_MAX: u32 = 50;

/// The runs of a function.
pub(super) struct Others<'a> {
    connection: &'a Connection,
    function: Name,
    next: Instant,
    /// Those that were shown, or are not to be: of the latest ones.
    known: HashSet<RunId>,
    /// What ended before is no news.
    began: i64,
}

impl<'a> Others<'a> {
    /// Those that end from now on.
    pub(super) fn of(connection: &'a Connection, function: Name) -> Self {
        Self {
            connection,
            function,
            next: Instant::now() + EVERY,
            known: HashSet::new(),
            began: chrono::Utc::now().timestamp(),
        }
    }

    /// This run is shown by somebody else.
    pub(super) fn knows(&mut self, run: RunId) {
        self.known.insert(run);
    }

    /// When they are to be looked for again.
    pub(super) async fn due(&self) {
        sleep_until(self.next).await;
    }

    /// Shows those that have ended. A server that does not answer now may do so the next time.
    pub(super) async fn say(&mut self) {
        self.next = Instant::now() + EVERY;
        let filter = Filter::Runs {
            function: Some(self.function.clone()),
            since: None,
            limit: RUNS_MAX,
        };
        let Ok(answer) = self.connection.query(filter, Seq(0)).await else {
            return;
        };
        let read = |document| serde_json::from_value::<RunDocument>(document).ok();
        let runs: Vec<RunDocument> = answer.documents.into_iter().filter_map(read).collect();
        for run in runs.iter().rev() {
            let ended = run.finished_time.is_some_and(|at| at >= self.began);
            if ended && self.known.insert(run.name) {
                note(&format!("Run {} of somebody else", run.name));
                report::say_logs(&run.logs);
                if let Some(error) = &run.error {
                    report::say_error(error);
                }
            }
        }
        // What is no longer among the latest never comes again.
        self.known.retain(|known| {
            runs.len() < RUNS_MAX as usize || runs.iter().any(|run| run.name == *known)
        });
    }
}
