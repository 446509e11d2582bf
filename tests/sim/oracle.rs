//! What must hold when the faults have ceased, and again when everything was deleted.

mod keys;
mod record;

use std::collections::{BTreeMap, BTreeSet};

use engine_core::{World, check};
use engine_model::{Cause, Command, Deletion, Kind, ResourceKey, Status, Timestamp};

pub(super) use self::record::Record;
use super::run::Sim;
use super::script::{self, BROKERS, BUSY_MS, SECRETS};
use super::trace::START;

/// How long all may take to come to rest once the faults cease, in milliseconds: 30 days.
const REST_MS_MAX: i64 = 30 * 86_400_000;

/// More happenings than any story has.
const HAPPENINGS_MAX: u64 = 4_000_000;

/// How often a person does what reasons say: a secret, then what was hidden behind it.
const AS_TOLD_MAX: u32 = 4;

/// How often the moment is looked at, in milliseconds.
const LOOK_MS: i64 = 60_000;

/// So many quiet looks in a row are rest: catalogs are read every five minutes, and one that
/// could not be read sets others going when it can.
const QUIET_LOOKS: u32 = 8;

impl Sim {
    /// Lets all happen and tells the first rule that does not hold.
    pub(super) fn judge(&mut self) -> Result<(), String> {
        self.pass(START.plus_ms(BUSY_MS + 30_000))?;
        self.rest()?;
        for _ in 0..AS_TOLD_MAX {
            if !self.do_as_told() {
                break;
            }
            self.rest()?;
        }
        self.at_rest()?;
        self.delete_all()?;
        self.all_gone()
    }

    fn pass(&mut self, until: Timestamp) -> Result<(), String> {
        while self.step(until) {
            if let Some(broken) = &self.broken {
                return Err(broken.clone());
            }
            if self.happened > HAPPENINGS_MAX {
                return Err(format!(
                    "it never ends: {HAPPENINGS_MAX} things have happened"
                ));
            }
        }
        self.now = until;
        for (node, state) in self.nodes.iter().enumerate() {
            if let Some(violation) = check(&state.world).first() {
                return Err(format!("node n{node}: {violation}"));
            }
        }
        Ok(())
    }

    /// Lets time pass until nothing goes on any more.
    fn rest(&mut self) -> Result<(), String> {
        let (since, mut quiet) = (self.now, 0);
        while quiet < QUIET_LOOKS {
            let long = self.now.since_ms(since) > 86_400_000;
            let look = if long { 30 * LOOK_MS } else { LOOK_MS };
            self.pass(self.now.plus_ms(look))?;
            quiet = if self.quiet() { quiet + 1 } else { 0 };
            if self.now.since_ms(since) > REST_MS_MAX {
                return Err(format!("it never comes to rest: {}", self.unrest()));
            }
        }
        let now = self.now;
        for broker in &mut self.brokers {
            broker.settle_all(now);
        }
        Ok(())
    }

    fn unrest(&self) -> String {
        let mut keys = self.keys();
        keys.retain(|key| {
            let status = self.nodes[0].world.status(key);
            status.is_some_and(|(status, _)| {
                !matches!(status, Status::Ready | Status::Deleted | Status::Error)
            })
        });
        let shown = keys.iter().map(|key| {
            let (status, why) = self.nodes[0]
                .world
                .status(key)
                .unwrap_or((Status::Error, vec![]));
            format!("{key} is {} {why:?}", status.as_str())
        });
        let mut shown: Vec<String> = shown.collect();
        for (n, node) in self.nodes.iter().enumerate() {
            let due = engine_core::due(&node.world, self.now);
            if !due.is_empty() || !node.idle() {
                shown.push(format!("n{n} is busy: {:?} {due:?}", node.jobs));
            }
        }
        shown.push(format!("{} requests are open", self.wires.len()));
        shown.push(format!("{} deliveries are open", self.inboxes.open.len()));
        shown.join("; ")
    }

    /// Every resource that ever was.
    fn keys(&self) -> Vec<ResourceKey> {
        let all = self.log.commits.iter().map(|one| one.commit.key.clone());
        let unique: BTreeSet<ResourceKey> = all.collect();
        unique.into_iter().collect()
    }

    /// Does what reasons tell a person to do: what is missing is made.
    fn do_as_told(&mut self) -> bool {
        let mut told = BTreeSet::new();
        for key in self.keys() {
            let why = self.nodes[0].world.status(&key).map(|(_, why)| why);
            let why = why.unwrap_or_default();
            for n in 0..BROKERS {
                let text =
                    format!("service broker b{n} is not registered any more; register it again");
                if why.iter().any(|why| why.contains(&text)) {
                    told.insert((Kind::ServiceBroker, n));
                }
            }
            for n in 0..SECRETS {
                let text = format!("secret s{n} does not exist");
                if why.iter().any(|why| why.contains(&text)) {
                    told.insert((Kind::Secret, n));
                }
            }
        }
        for (kind, n) in &told {
            let (name, spec) = match kind {
                Kind::Secret => (format!("s{n}"), script::secret(*n)),
                _ => (format!("b{n}"), script::broker(*n)),
            };
            self.ask(script::key(*kind, &name), Command::Create(spec));
        }
        !told.is_empty()
    }

    fn at_rest(&mut self) -> Result<(), String> {
        self.worlds_agree()?;
        self.commands_were_decided()?;
        let keys = self.keys();
        for key in &keys {
            self.is_settled(key)?;
        }
        let record = Record::of(&self.log.commits);
        self.holdings(&record)?;
        self.credentials(&record)?;
        keys::check(&self.log.commits, &record.credentials, &self.vault.alive())
    }

    fn worlds_agree(&self) -> Result<(), String> {
        let mut again = World::default();
        for recorded in &self.log.commits {
            if let Err(error) = again.apply(recorded) {
                return Err(format!("the log does not replay: {error}"));
            }
        }
        match self.nodes.iter().position(|node| node.world != again) {
            Some(node) => {
                let other = self.keys().into_iter().find(|key| {
                    let own = &self.nodes[node].world;
                    own.status(key) != again.status(key)
                });
                Err(format!(
                    "node n{node} has folded another world than the log tells{}",
                    other.map_or_else(String::new, |key| format!(", as {key} shows"))
                ))
            }
            None => Ok(()),
        }
    }

    /// No command is lost, and none is decided twice.
    fn commands_were_decided(&self) -> Result<(), String> {
        let mut decided: BTreeMap<String, u32> = BTreeMap::new();
        for recorded in &self.log.commits {
            if let Cause::Command(id) = recorded.commit.cause
                && self.accepted.get(&id.to_string()) == Some(&recorded.commit.key)
            {
                *decided.entry(id.to_string()).or_default() += 1;
            }
        }
        for (id, key) in &self.accepted {
            let count = decided.get(id).copied().unwrap_or(0);
            if count > 1 {
                return Err(format!("command {id} of {key} was decided {count} times"));
            }
            let heard = self.replies.get(id);
            if heard.is_none() {
                return Err(format!("command {id} of {key} was lost"));
            }
            let first = heard.and_then(|heard| heard.iter().position(Option::is_some));
            let refused = first
                .zip(heard)
                .is_some_and(|(at, heard)| heard[at..].contains(&None));
            if count == 1 && refused {
                return Err(format!(
                    "command {id} of {key} was decided, and then called refused"
                ));
            }
        }
        Ok(())
    }

    /// READY, gone, or a reason with what to do.
    fn is_settled(&self, key: &ResourceKey) -> Result<(), String> {
        let Some((status, why)) = self.nodes[0].world.status(key) else {
            return Err(format!("{key} has no status"));
        };
        let said = why.iter().any(|why| !why.trim().is_empty());
        let bad = |what: &str| Err(format!("{key} is {} {what}: {why:?}", status.as_str()));
        match status {
            Status::Ready | Status::Deleted => Ok(()),
            Status::Error if said => Ok(()),
            Status::Error => bad("and does not say why"),
            Status::Initialized | Status::Updating if said && waits(&why) => Ok(()),
            Status::Initialized
            | Status::Creating
            | Status::Updating
            | Status::Deleting
            | Status::Cancelled => bad("for ever"),
        }
    }

    /// What the brokers hold is what the record shows, but for what was ended on record only.
    fn holdings(&self, record: &Record) -> Result<(), String> {
        let misled = |id: &String| self.misled.contains_key(id);
        let held: BTreeSet<String> = self.brokers.iter().flat_map(|b| b.held()).collect();
        for id in &record.instances {
            if !held.contains(id) {
                return Err(format!("instance {id} is shown, and no broker holds it"));
            }
        }
        for id in &held {
            let known = record.instances.contains(id) || record.abandoned.contains(id);
            if !known && !misled(id) {
                return Err(format!(
                    "a broker holds instance {id}, and nothing shows it"
                ));
            }
        }
        let bound: BTreeMap<String, String> = self.brokers.iter().flat_map(|b| b.bound()).collect();
        for id in &record.bindings {
            if !bound.contains_key(id) {
                return Err(format!("binding {id} is shown, and no broker holds it"));
            }
        }
        for (id, instance) in &bound {
            let known = record.bindings.contains(id) || record.abandoned.contains(id);
            if !known && !record.abandoned.contains(instance) && !misled(id) {
                return Err(format!("a broker holds binding {id}, and nothing shows it"));
            }
        }
        Ok(())
    }

    /// What is stored for a binding opens it.
    fn credentials(&self, record: &Record) -> Result<(), String> {
        let alive = self.vault.alive();
        for (id, sealed) in &record.credentials {
            let wanted = self.brokers.iter().find_map(|broker| broker.password(id));
            let opens = alive.get(&sealed.key).copied() == super::vault::generation(sealed);
            if !opens {
                return Err(format!("the credentials of binding {id} cannot be opened"));
            }
            if let Some(wanted) = wanted
                && !sealed.ciphertext.contains(&format!("\"{wanted}\""))
            {
                return Err(format!("the credentials of binding {id} do not work"));
            }
        }
        Ok(())
    }

    /// Everything is deleted, users first.
    fn delete_all(&mut self) -> Result<(), String> {
        self.say(|| "everything is deleted".to_owned());
        for kinds in [
            [Kind::Function, Kind::ServiceInstance],
            [Kind::ServiceBroker, Kind::Secret],
        ] {
            for key in self.keys() {
                let (status, _) = self.nodes[0]
                    .world
                    .status(&key)
                    .unwrap_or((Status::Deleted, vec![]));
                if kinds.contains(&key.kind) && status != Status::Deleted {
                    self.ask(key, Command::Delete(Deletion { cascade: true }));
                }
            }
            self.rest()?;
        }
        Ok(())
    }

    fn all_gone(&mut self) -> Result<(), String> {
        self.worlds_agree()?;
        for key in self.keys() {
            let Some((status, why)) = self.nodes[0].world.status(&key) else {
                continue;
            };
            let stays = matches!(key.kind, Kind::BaseImage | Kind::Image);
            if status != Status::Deleted && !stays {
                return Err(format!(
                    "{key} was deleted and is {}: {why:?}",
                    status.as_str()
                ));
            }
        }
        self.misled.clear();
        let record = Record::of(&self.log.commits);
        self.holdings(&record)?;
        keys::check(&self.log.commits, &record.credentials, &self.vault.alive())
    }
}

/// Whether a reason names what is waited for.
fn waits(why: &[String]) -> bool {
    [
        "does not exist",
        "has no service binding",
        "is not",
        "is ERROR",
        "is INITIALIZED",
        "in error",
        "no longer offer",
        "not provisioned",
    ]
    .iter()
    .any(|text| why.iter().any(|why| why.contains(text)))
}
