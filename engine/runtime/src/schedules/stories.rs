//! Random stories in virtual time: a schedule is made, changed, paused and deleted while nodes die
//! and come back, clocks are set forward, and the log fails them. Each occurrence has its run, or is on record as missed,
//! or was called off; and nothing else is run.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use engine_model::spec::ScheduleSpec;
use engine_model::{Commit, Event, Name, ScheduleEvent};
use engine_stream::{Fault, Faults, Memory, Operation};

use super::tests::{Node, key, name, org, requests, spec};
use super::*;

/// How long a node may take to notice what was left to it.
const NOTICED_MS: i64 = 25_000;

/// Changes of one story.
const CHANGES: usize = 12;

/// Numbers that depend on the seed alone.
struct Rng(AtomicU64);

impl Rng {
    fn below(&self, bound: u64) -> u64 {
        let mut n = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (n ^ (n >> 31)) % bound
    }

    fn one_in(&self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// Now and then something fails, before or after it was done, comes late or twice.
struct Trouble {
    rng: Rng,
    on: AtomicBool,
}

impl Faults for Trouble {
    fn next(&self, _: Operation) -> Fault {
        if !self.on.load(Ordering::Relaxed) {
            return Fault::None;
        }
        match self.rng.below(60) {
            0 => Fault::Fail,
            1 => Fault::FailAfter,
            2 => Fault::Delay(Duration::from_millis(self.rng.below(1_500))),
            3 => Fault::Duplicate,
            _ => Fault::None,
        }
    }
}

/// A time in which a schedule was due at equal intervals.
#[derive(Debug)]
struct Life {
    id: ResourceId,
    function: Name,
    every_ms: i64,
    anchor: Timestamp,
    since: Timestamp,
    until: Option<Timestamp>,
}

impl Life {
    fn occurrences(&self, end: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        let until = self.until.unwrap_or(end);
        (1..)
            .map(|n| self.anchor.plus_ms(n * self.every_ms))
            .skip_while(|at| *at <= self.since)
            .take_while(move |at| *at <= until)
    }
}

struct Story {
    log: Memory,
    rng: Rng,
    trouble: Arc<Trouble>,
    /// How much the clocks of the nodes were set forward, in milliseconds.
    ahead: Arc<AtomicI64>,
    nodes: Vec<(Node, Timestamp)>,
    /// From when to when nodes lived.
    alive: Vec<(Timestamp, Timestamp)>,
    /// The schedule as it is: its id, what it says, and where its intervals are counted from.
    now: Option<(ResourceId, ScheduleSpec, Timestamp)>,
    lives: Vec<Life>,
}

impl Story {
    fn of(seed: u64) -> Self {
        let trouble = Arc::new(Trouble {
            rng: Rng(AtomicU64::new(seed ^ 0xfa17)),
            on: AtomicBool::new(false),
        });
        let start = Timestamp(1_800_000_000_123);
        let log = Memory::simulated(start, Duration::from_secs(12), trouble.clone());
        Self {
            log,
            rng: Rng(AtomicU64::new(seed)),
            trouble,
            ahead: Arc::default(),
            nodes: Vec::new(),
            alive: Vec::new(),
            now: None,
            lives: Vec::new(),
        }
    }

    fn time(&self) -> Timestamp {
        self.log.now().plus_ms(self.ahead.load(Ordering::Relaxed))
    }

    fn has_jumped(&self) -> bool {
        self.ahead.load(Ordering::Relaxed) > 0
    }

    /// The clocks of all nodes are set forward: nobody was there in between.
    fn jump(&mut self) {
        let before = self.time();
        let by = [3_000, 30_000, 3_600_000][usize::try_from(self.rng.below(3)).unwrap()];
        self.ahead.fetch_add(by, Ordering::Relaxed);
        let after = self.time();
        for (_, born) in &mut self.nodes {
            self.alive.push((*born, before));
            *born = after;
        }
    }

    async fn birth(&mut self) {
        let (log, ahead) = (self.log.clone(), self.ahead.clone());
        let clock = move || log.now().plus_ms(ahead.load(Ordering::Relaxed));
        let node = Node::with_clock(&self.log, Arc::new(clock)).await;
        let node = node.at_work(&self.log).await;
        self.nodes.push((node, self.time()));
    }

    fn death(&mut self) {
        if self.nodes.is_empty() {
            return;
        }
        let one = usize::try_from(self.rng.below(self.nodes.len() as u64)).unwrap();
        let (_, born) = self.nodes.swap_remove(one);
        self.alive.push((born, self.time()));
    }

    /// The next of the schedule's documents, and whether it is deleted or made.
    async fn change(&mut self) {
        let at = self.time();
        let mut events = Vec::new();
        self.now = match self.now.take() {
            Some(_) if self.rng.one_in(5) => {
                events.push(ScheduleEvent::Deleted);
                None
            }
            Some((id, before, anchor)) => {
                let mut after = before.clone();
                match self.rng.below(3) {
                    0 => after.paused = !after.paused,
                    1 => after.every = self.every(&before.every),
                    _ => {
                        after.function = name(if before.function == name("f") {
                            "g"
                        } else {
                            "f"
                        })
                    }
                }
                let anchor = match after.is_as_often(&before) {
                    true => anchor,
                    false => at,
                };
                events.push(ScheduleEvent::Updated {
                    spec: after.clone(),
                });
                if !after.names_as(&before) {
                    events.push(ScheduleEvent::Begun);
                }
                Some((id, after, anchor))
            }
            None => {
                let id = ResourceId::derived(format_args!("{}", at.0));
                let spec = spec(&self.every(""), Overlap::Allow);
                events.push(ScheduleEvent::Created {
                    id,
                    spec: spec.clone(),
                });
                events.push(ScheduleEvent::Begun);
                Some((id, spec, at))
            }
        };
        if let Some(life) = self.lives.last_mut() {
            life.until.get_or_insert(at);
        }
        if let Some((id, spec, anchor)) = self.now.as_ref().filter(|(_, spec, _)| !spec.paused) {
            let seconds: i64 = spec.every.trim_end_matches('s').parse().unwrap();
            self.lives.push(Life {
                id: *id,
                function: spec.function.clone(),
                every_ms: seconds * 1000,
                anchor: *anchor,
                since: at,
                until: None,
            });
        }
        self.commit(events, at).await;
    }

    fn every(&self, not: &str) -> String {
        let all: Vec<_> = ["1s", "3s", "20s", "120s"]
            .into_iter()
            .filter(|every| *every != not)
            .collect();
        all[usize::try_from(self.rng.below(all.len() as u64)).unwrap()].to_owned()
    }

    async fn commit(&self, events: Vec<ScheduleEvent>, at: Timestamp) {
        let on = self.trouble.on.swap(false, Ordering::Relaxed);
        let last = self.log.last(&key()).await.unwrap();
        let seq = last.map_or(Seq(0), |last| last.seq);
        let cause = Cause::Effect { seq, index: 7 };
        let commit = Commit {
            id: Commit::id_for(&key(), seq, cause),
            key: key(),
            events: events.into_iter().map(Event::Schedule).collect(),
            at,
            actor: Actor("user:alice".into()),
            cause,
            correlation: "test".into(),
        };
        self.log.append(&commit, seq).await.unwrap();
        self.trouble.on.store(on, Ordering::Relaxed);
    }

    /// Whether one node was there all the time.
    fn was_there(&self, from: Timestamp, to: Timestamp) -> bool {
        let mut alive = self.alive.iter();
        alive.any(|(born, died)| *born <= from && *died >= to)
    }

    async fn missed(&self) -> Vec<(Timestamp, Timestamp)> {
        let history = self.log.history(&key()).await.unwrap();
        let events = history.into_iter().flat_map(|one| one.commit.events);
        events
            .filter_map(|event| match event {
                Event::Schedule(ScheduleEvent::Missed { first, last, .. }) => Some((first, last)),
                _ => None,
            })
            .collect()
    }
}

/// Tells a story, and says what is wrong with its end, and how many occurrences it had.
async fn tell(seed: u64) -> (Vec<String>, usize, usize) {
    let mut story = Story::of(seed);
    let mut inbox = story.log.run_commands().await.unwrap();
    story.birth().await;
    story.trouble.on.store(true, Ordering::Relaxed);
    for _ in 0..CHANGES {
        story.change().await;
        for _ in 0..=story.rng.below(3) {
            match story.rng.below(5) {
                0 => story.death(),
                // In half of the stories.
                4 if seed % 2 == 1 => story.jump(),
                1 | 2 if story.nodes.len() < 3 => story.birth().await,
                _ => {}
            }
            let long = [4_000, 40_000, 400_000][usize::try_from(story.rng.below(3)).unwrap()];
            let wait = Duration::from_millis(1 + story.rng.below(long));
            tokio::time::sleep(wait).await;
        }
    }
    story.trouble.on.store(false, Ordering::Relaxed);
    story.birth().await;
    let end = story.time();
    tokio::time::sleep(Duration::from_millis(NOTICED_MS as u64 + 15_000)).await;
    while !story.nodes.is_empty() {
        story.death();
    }
    let found = requests(inbox.as_mut(), Duration::from_secs(1)).await;
    let asked: HashMap<RunId, Name> = found
        .into_iter()
        .map(|one| (one.id, one.function))
        .collect();
    let missed = story.missed().await;
    let (mut wrong, mut known, mut left_out) = (Vec::new(), HashMap::new(), 0);
    for life in &story.lives {
        // What is asked for after the end is not held against it.
        for at in life.occurrences(end.plus_ms(600_000)) {
            let run = RunId::of_schedule(&org(), life.id, at);
            known.insert(run, life.function.clone());
            if at > end {
                continue;
            }
            let is_asked = asked.contains_key(&run);
            let is_missed = missed.iter().any(|(from, to)| (*from..=*to).contains(&at));
            let noticed = at.plus_ms(NOTICED_MS);
            let called_off = life.until.is_some_and(|until| until <= noticed);
            // Timers go by the log's clock, and are late when others were set forward.
            let there =
                !story.has_jumped() && story.was_there(at.plus_ms(-NOTICED_MS), at.plus_ms(14_000));
            let unnoticed = || {
                life.until.is_some_and(|until| {
                    let from = |ms| at.plus_ms(ms);
                    !(0..until.since_ms(at)).step_by(1000).any(|ms| {
                        from(ms + NOTICED_MS) <= until
                            && story.was_there(from(ms), from(ms + NOTICED_MS))
                    })
                })
            };
            left_out += usize::from(!is_asked);
            match (is_asked, is_missed) {
                (true, true) => wrong.push(format!("{at} was run, and is on record as missed")),
                (false, false) if !called_off && !unnoticed() => {
                    wrong.push(format!("{at} was not run, and nobody says why: {life:?}"));
                }
                (false, true) if there => {
                    wrong.push(format!("{at} was missed, and a node was there: {life:?}"));
                }
                _ => {}
            }
        }
    }
    for (run, function) in &asked {
        if known.get(run) != Some(function) {
            wrong.push(format!("run {run} of {function} was never due"));
        }
    }
    (wrong, asked.len(), left_out)
}

#[test]
fn whatever_happens_each_occurrence_is_run_or_missed_or_called_off() {
    let (mut run, mut left_out) = (0, 0);
    for seed in 0..40 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let (wrong, asked, others) = runtime.block_on(tell(seed));
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
        run += asked;
        left_out += others;
    }
    // So that the stories tell something.
    assert!(run > 1_000 && left_out > 100, "{run} {left_out}");
}
