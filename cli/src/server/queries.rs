//! Answers queries: what the node knows itself, and what the views know.

use std::sync::Arc;

use adapter_kit::Vault;
use engine_model::{Answer, AsOf, Code, Filter, Kind, Query, Rejection};
use engine_stream::{Error, Log};
use projections::Views;
use serde_json::{Value, json};

use super::brokers::Brokers;
use super::schedules;

/// Dead letters shown at once, whatever is asked for.
const LETTERS_MAX: usize = 1000;

/// Answers the queries of one node.
#[derive(Clone)]
pub(crate) struct Answers {
    pub(crate) views: Views,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) vault: Arc<dyn Vault>,
    pub(crate) info: Arc<Value>,
    pub(crate) brokers: Brokers,
}

impl Answers {
    /// Answers one query.
    pub(crate) async fn answer(&self, query: Query) -> Result<Answer, Rejection> {
        match query.filter {
            Filter::Info => {
                let mut info = self.info.as_ref().clone();
                info["publicKey"] = json!(self.vault.public_key());
                Ok(self.documents(vec![info]))
            }
            Filter::DeadLetters { limit } => {
                let limit = usize::try_from(limit).map_or(LETTERS_MAX, |n| n.min(LETTERS_MAX));
                let letters = self.log.dead_letters(limit).await.map_err(unavailable)?;
                Ok(self.documents(letters.iter().map(|letter| json!(letter)).collect()))
            }
            Filter::Revive { letter } => {
                self.log.revive(letter).await.map_err(unavailable)?;
                Ok(self.documents(Vec::new()))
            }
            Filter::Rebuild => {
                let rebuilt = self.views.rebuild().await;
                rebuilt.map_err(|error| Rejection::new(Code::Unavailable, error.to_string()))?;
                Ok(self.documents(Vec::new()))
            }
            Filter::Live { name } => {
                let document = self.brokers.live(&query.org, &name).await?;
                Ok(self.documents(vec![document]))
            }
            Filter::Orphans => Ok(self.documents(self.brokers.orphans(&query.org))),
            Filter::One {
                kind: Kind::Schedule,
                ..
            }
            | Filter::All {
                kind: Kind::Schedule,
                ..
            } => {
                let (org, seq) = (query.org.clone(), query.at_least);
                let answer = self.views.query(query).await?;
                let fold = &self.brokers.fold;
                Ok(schedules::complete(fold, &self.views, &org, seq, answer).await)
            }
            Filter::One { .. }
            | Filter::All { .. }
            | Filter::History { .. }
            | Filter::Revisions { .. }
            | Filter::Run { .. }
            | Filter::Runs { .. } => self.views.query(query).await,
        }
    }

    fn documents(&self, documents: Vec<Value>) -> Answer {
        let AsOf { seq, at } = self.views.as_of();
        Answer {
            as_of: AsOf { seq, at },
            documents,
        }
    }
}

fn unavailable(error: Error) -> Rejection {
    Rejection::new(Code::Unavailable, error.to_string())
}
