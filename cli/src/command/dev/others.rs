//! Shows the runs of a function that others began: what they print while they print it, and how
//! they failed when they have.

use std::collections::HashSet;
use std::time::Duration;

use engine_model::{Filter, LogLine, Name, RunId, Seq};
use futures::StreamExt as _;
use projections::RunDocument;
use tokio::time::{Instant, sleep_until};

use crate::client::{Connection, LogLines};
use crate::command::{logs, report};
use crate::output::note;

/// How often it is looked for those that ended: an error is in their records only, and where lines
/// are not told, so is what they printed.
const EVERY: Duration = Duration::from_secs(1);

/// How many are looked at; more than these in one interval are not shown.
const RUNS_MAX: u32 = 50;

/// The runs of a function.
pub(super) struct Others<'a> {
    connection: &'a Connection,
    function: Name,
    /// What they print, where that is told.
    lines: Option<LogLines>,
    /// Whose line was shown last.
    last: Option<RunId>,
    next: Instant,
    /// Those whose end was shown, or is not to be: of the latest ones.
    known: HashSet<RunId>,
    /// Those of this session.
    own: HashSet<RunId>,
    /// What ended before is no news.
    began: i64,
}

/// What there is to be said.
pub(super) enum News {
    /// One of them printed a line.
    Line(RunId, LogLine),
    /// It is time to look for those that ended.
    Look,
}

impl<'a> Others<'a> {
    /// Those that print and end from now on.
    pub(super) async fn of(connection: &'a Connection, function: Name) -> Self {
        Self {
            connection,
            // Over REST they are shown when they have ended.
            lines: connection.follow_logs(&function, None).await.ok(),
            function,
            last: None,
            next: Instant::now() + EVERY,
            known: HashSet::new(),
            own: HashSet::new(),
            began: chrono::Utc::now().timestamp(),
        }
    }

    /// This run is shown by somebody else. It has to be said before the next news are asked for.
    pub(super) fn knows(&mut self, run: RunId) {
        self.known.insert(run);
        self.own.insert(run);
    }

    /// Waits for the next news; nothing is lost when the wait is given up.
    pub(super) async fn news(&mut self) -> News {
        loop {
            let line = async {
                match &mut self.lines {
                    Some(lines) => lines.next().await,
                    None => std::future::pending().await,
                }
            };
            let line = tokio::select! {
                biased; // lines that keep coming put no look off
                () = sleep_until(self.next) => return News::Look,
                line = line => line,
            };
            match line {
                Some((run, line)) => return News::Line(run, line),
                None => self.lines = None, // the connection is closed for good
            }
        }
    }

    /// Shows what there is to be shown.
    pub(super) async fn say(&mut self, news: News) {
        match news {
            News::Line(run, _) if self.own.contains(&run) => {}
            News::Line(run, line) => {
                if self.last.replace(run) != Some(run) {
                    title(run);
                }
                note(logs::text(None, &line).trim_end_matches('\n'));
            }
            News::Look => self.look().await,
        }
    }

    /// Shows those that have ended. A server that does not answer now may do so the next time.
    async fn look(&mut self) {
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
                self.ended(run);
            }
        }
        // What is no longer among the latest never comes again.
        let comes = |known: &RunId| {
            runs.len() < RUNS_MAX as usize || runs.iter().any(|run| run.name == *known)
        };
        self.known.retain(comes);
        self.own.retain(comes);
    }

    fn ended(&mut self, run: &RunDocument) {
        let silent = run.logs.stdout.is_empty() && run.logs.stderr.is_empty();
        let told = self.lines.is_some() && !silent;
        if !told || (run.error.is_some() && self.last != Some(run.name)) {
            title(run.name);
            self.last = Some(run.name);
        }
        if !told {
            report::say_logs(&run.logs);
        }
        if let Some(error) = &run.error {
            report::say_error(error);
        }
    }
}

fn title(run: RunId) {
    note(&format!("Run {run} of somebody else"));
}
