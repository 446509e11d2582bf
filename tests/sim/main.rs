//! `sim`: tells seeded stories of the platform and its brokers in virtual time, and names the
//! first seed that ends badly.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use harness::say;
use harness::sim::{Sabotage, Settings, Told, shrunk, tell};

const USAGE: &str = "usage: sim [--seeds N] [--from N] [--seed N [--trace] [--shrink]] \
                     [--commands N] [--break WAY]";

/// Lines of the story that are shown of a seed that ends badly.
const TAIL: usize = 60;

#[derive(Default)]
struct Args {
    seeds: Option<u64>,
    from: u64,
    seed: Option<u64>,
    trace: bool,
    shrink: bool,
    settings: Settings,
}

fn args() -> Result<Args> {
    let mut args = Args::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64> {
            let value = words
                .next()
                .with_context(|| format!("{word} wants a number"))?;
            value.parse().with_context(|| format!("{word} {value}"))
        };
        match word.as_str() {
            "--seeds" => args.seeds = Some(number()?),
            "--from" => args.from = number()?,
            "--seed" => args.seed = Some(number()?),
            "--commands" => args.settings.commands = usize::try_from(number()?)?,
            "--trace" => args.trace = true,
            "--shrink" => args.shrink = true,
            "--break" => {
                let way = words.next().unwrap_or_default();
                let found = Sabotage::ALL.iter().find(|(name, _)| *name == way);
                let Some((_, way)) = found else {
                    let known: Vec<&str> = Sabotage::ALL.iter().map(|(name, _)| *name).collect();
                    bail!("--break wants one of {}", known.join(", "));
                };
                args.settings.sabotage = Some(*way);
            }
            _ => bail!("{USAGE}"),
        }
    }
    Ok(args)
}

fn main() -> Result<()> {
    let args = args()?;
    let good = match args.seed {
        Some(seed) => one(seed, &args),
        None => many(&args),
    };
    if !good {
        std::process::exit(1);
    }
    Ok(())
}

/// Tells one story in full.
fn one(seed: u64, args: &Args) -> bool {
    let settings = Settings {
        trace: args.trace,
        ..args.settings.clone()
    };
    let told = tell(seed, &settings);
    for line in &told.trace {
        say(line);
    }
    say(&format!(
        "seed {seed}: {} events, {} commits, {} requests, {} virtual hours",
        told.events,
        told.commits,
        told.requests,
        told.virtual_ms / 3_600_000
    ));
    bad(seed, &told, args)
}

/// Tells many stories, until one ends badly.
fn many(args: &Args) -> bool {
    let seeds = args.seeds.unwrap_or(100);
    let (began, mut events, mut commits, mut requests) = (Instant::now(), 0, 0, 0);
    let mut failed = None;
    let mut told = 0;
    for seed in args.from..args.from + seeds {
        let story = tell(seed, &args.settings);
        events += story.events;
        commits += story.commits;
        requests += story.requests;
        told += 1;
        if story.violation.is_some() {
            failed = Some((seed, story));
            break;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    say(&format!("seeds             {told}"));
    say(&format!(
        "events simulated  {events} ({commits} commits, {requests} requests)"
    ));
    say(&format!("events per second {:.0}", events as f64 / seconds));
    match failed {
        None => {
            say("first failing     none");
            true
        }
        Some((seed, story)) => {
            say(&format!("first failing     {seed}"));
            bad(seed, &story, args)
        }
    }
}

/// Says how a story ended; whether it ended well.
fn bad(seed: u64, told: &Told, args: &Args) -> bool {
    let Some(violation) = &told.violation else {
        return true;
    };
    say(&format!("seed {seed} ends badly: {violation}"));
    let settings = Settings {
        trace: true,
        ..args.settings.clone()
    };
    let story = if args.shrink {
        let (kept, story) = shrunk(seed, &settings);
        say(&format!(
            "it takes the commands {kept:?} only: {:?}",
            story.violation
        ));
        story
    } else if args.trace {
        return false;
    } else {
        tell(seed, &settings)
    };
    say("the end of the story:");
    let from = story.trace.len().saturating_sub(TAIL);
    for line in &story.trace[from..] {
        say(&format!("  {line}"));
    }
    say(&format!("the whole of it: sim --seed {seed} --trace"));
    false
}
