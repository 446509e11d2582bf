//! Prints how fast functions start and answer on this machine:
//! `cargo run --release -p adapter-functions --example measure`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adapter_functions::{Call, Config, Functions, Language, LauncherConfig, Revision, Source};
use adapter_kit::MemoryBlobs;
use serde_json::{Value, json};

const PYTHON: &str = "def handle(context, payload):\n    return {'myField': 'Hello, %s from %s' % (payload['name'], payload['place'])}\n";
const NODE: &str = "module.exports = (context, payload) => ({ myField: `Hello, ${payload.name} from ${payload.place}` });\n";
const JAVA: &str = "import java.util.*;
public class Hello implements java.util.function.BiFunction<Map<String, Object>, Map<String, Object>, Object> {
    public Object apply(Map<String, Object> context, Map<String, Object> payload) {
        return Map.of(\"myField\", \"Hello, \" + payload.get(\"name\") + \" from \" + payload.get(\"place\"));
    }
}
";

/// A function that is measured.
struct Subject {
    language: Language,
    file: &'static str,
    text: &'static str,
}

fn main() {
    // The launcher must start before there are threads.
    if std::env::args().nth(1).as_deref() == Some("launcher") {
        adapter_sandbox::launcher_main();
    }
    measure();
}

#[expect(
    clippy::print_stdout,
    reason = "its output is what this program is for"
)]
#[tokio::main]
async fn measure() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for (label, file, text) in [
        ("python3", "hello.py", PYTHON),
        ("nodejs", "hello.js", NODE),
        ("java", "Hello.java", JAVA),
    ] {
        if !(wanted.is_empty() || wanted.iter().any(|w| w == label)) {
            continue;
        }
        let subject = Subject {
            language: Language::parse(label).expect("it has a pack"),
            file,
            text,
        };
        let (functions, _state) = start(0, Duration::from_secs(600));
        let samples = new_functions(&functions, &subject).await;
        println!(
            "{label:8} {:28} {}",
            "new function and first call",
            figures(samples)
        );
        functions.shutdown(Duration::from_secs(1)).await;
        for (stems, what) in [
            (0, "first call, new process"),
            (1, "first call on a stem cell"),
        ] {
            let (functions, _state) = start(stems, Duration::from_millis(1));
            let samples = calls_from_zero(&functions, &subject, stems).await;
            println!("{label:8} {what:28} {}", figures(samples));
            functions.shutdown(Duration::from_secs(1)).await;
        }
        let (functions, _state) = start(0, Duration::from_secs(600));
        functions
            .load(revision(&subject, 0))
            .await
            .expect("it loads");
        let mut samples = Vec::new();
        for _ in 0..5000 {
            let begun = Instant::now();
            functions.call("r0", call()).await;
            samples.push(begun.elapsed());
        }
        println!("{label:8} {:28} {}", "warm call", figures(samples));
        println!(
            "{label:8} {:28} {:.0}/s",
            "calls, 8 callers",
            rate(&functions).await
        );
        let stats = functions.stats();
        println!("{label:8} {:28} {stats:?}", "afterwards");
        functions.shutdown(Duration::from_secs(1)).await;
    }
}

fn start(stems: usize, idle_ttl: Duration) -> (Functions, tempfile::TempDir) {
    let me = std::env::current_exe().expect("a running program has a path");
    let launcher = LauncherConfig::new([me.to_string_lossy().into_owned(), "launcher".to_owned()]);
    let state = tempfile::tempdir().expect("a state directory");
    let mut config = Config::new(state.path(), launcher, Arc::new(MemoryBlobs::default()));
    config.pools.stems = stems;
    config.pools.idle_ttl = idle_ttl;
    config.pools.workers_max = 2;
    (Functions::start(config).expect("functions start"), state)
}

fn revision(subject: &Subject, number: usize) -> Revision {
    let source = Source::File {
        name: subject.file.into(),
        text: subject.text.into(),
    };
    Revision {
        timeout_ms: 30_000,
        ..Revision::new(format!("r{number}"), subject.language, source)
    }
}

fn call() -> Call {
    Call {
        context: json!({"secrets": {"password": "OpenSesame"}}),
        ..Call::new("run", json!({"name": "Jon", "place": "Winterfell"}))
    }
}

/// Loads revision after revision without stems, and calls each once.
async fn new_functions(functions: &Functions, subject: &Subject) -> Vec<Duration> {
    let mut samples = Vec::new();
    for number in 0..53 {
        let begun = Instant::now();
        functions
            .load(revision(subject, number))
            .await
            .expect("it loads");
        let done = functions.call(&format!("r{number}"), call()).await;
        samples.push(begun.elapsed());
        assert_ne!(done.output, Value::Null, "{:?}", done.error);
        functions.retire(&format!("r{number}"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    samples.split_off(3)
}

/// Calls a function again and again after it was scaled to zero, with so many stems waiting.
async fn calls_from_zero(functions: &Functions, subject: &Subject, stems: usize) -> Vec<Duration> {
    functions
        .load(revision(subject, 0))
        .await
        .expect("it loads");
    let mut samples = Vec::new();
    for _ in 0..15 {
        while functions.stats().workers > 0 || functions.stats().stems < stems {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let begun = Instant::now();
        let done = functions.call("r0", call()).await;
        samples.push(begun.elapsed());
        assert_ne!(done.output, Value::Null, "{:?}", done.error);
    }
    samples
}

async fn rate(functions: &Functions) -> f64 {
    const CALLS: usize = 20_000;
    const CALLERS: usize = 8;
    let begun = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let functions = functions.clone();
            tokio::spawn(async move {
                for _ in 0..CALLS / CALLERS {
                    functions.call("r0", call()).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("a caller does not panic");
    }
    CALLS as f64 / begun.elapsed().as_secs_f64()
}

fn figures(mut samples: Vec<Duration>) -> String {
    samples.sort();
    let at =
        |share: f64| samples[((samples.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.3} ms  p99 {:.3} ms", at(0.5), at(0.99))
}
