//! What a function feels of a neighbour that means harm: its calls in quiet, and during attacks.

use std::time::{Duration, Instant};

use adapter_functions::Functions;
use anyhow::Result;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::languages::{Sample, call, revision, start};
use crate::report::{Figure, Report};

/// Calls of the neighbour, and the pause between two of them.
const CALLS: u32 = 4_000;
const PAUSE: Duration = Duration::from_millis(1);

/// The attackers of the escape suite that use something up.
const ATTACKS: [&str; 5] = [
    "bomb_of_forks",
    "bomb_of_memory",
    "fill_disk",
    "endless_output",
    "ignore_signals",
];

const ATTACKER: Sample = Sample {
    language: "python3",
    file: "main.py",
    text: include_str!("../it/escape/attacks.py"),
};

const NEIGHBOUR: Sample = Sample {
    language: "python3",
    file: "f.py",
    text: "def handle(context, payload):\n    return payload\n",
};

pub(crate) async fn run(report: &mut Report) -> Result<()> {
    let (_dir, functions) = start(1)?;
    functions.load(revision(&NEIGHBOUR, "neighbour")?).await?;
    for attack in ATTACKS {
        let mut attacker = revision(&ATTACKER, attack)?;
        attacker.timeout_ms = 2_000;
        attacker.limits = Some(adapter_sandbox::Limits {
            memory_bytes: Some(256 << 20),
            ..functions.limits().clone()
        });
        functions.load(attacker).await?;
    }
    let quiet = calls(report, "neighbour_quiet", &functions).await?;
    for attack in ATTACKS {
        let going = attacks(&functions, attack);
        let during = calls(report, &format!("neighbour_{attack}"), &functions).await?;
        going.abort();
        harness::say(&format!(
            "{:<34}  {:.1} times its quiet p99",
            "",
            during / quiet
        ));
    }
    functions.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// Attacks again and again.
fn attacks(functions: &Functions, attack: &'static str) -> JoinHandle<()> {
    let functions = functions.clone();
    tokio::spawn(async move {
        loop {
            let input = json!({ "attack": attack });
            let id = format!("python3-{attack}");
            let _ = functions.call(&id, call(input)).await;
        }
    })
}

/// The neighbour's p99 in milliseconds.
async fn calls(report: &mut Report, name: &str, functions: &Functions) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..CALLS {
        let since = Instant::now();
        let done = functions
            .call("python3-neighbour", call(json!("well")))
            .await;
        anyhow::ensure!(done.output == json!("well"), "{done:?}");
        times.push(since.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    let figure = Figure::named(name).times(times);
    let p99 = figure.p99_ms.unwrap_or(f64::NAN);
    report.add(figure);
    Ok(p99)
}
