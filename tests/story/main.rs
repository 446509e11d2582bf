//! Tells the story of docs/tutorial.md to a person: `make demo`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::story::{self, Story};

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let keep = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--keep"] => true,
        _ => return fail("usage: story [--keep]"),
    };
    let binaries = match story::binaries() {
        Ok(binaries) => binaries,
        Err(error) => return fail(&format!("{error:#}")),
    };
    let root = story::root();
    let story = Story {
        work: root.join(".demo"),
        root,
        binaries,
        keep,
    };
    let cancelled = Arc::new(AtomicBool::new(false));
    let told = cancelled.clone();
    let telling = tokio::task::spawn_blocking(move || story.run(&told));
    let interrupted = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            cancelled.store(true, Ordering::SeqCst);
        }
    });
    let ended = telling.await;
    interrupted.abort();
    match ended {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => fail(&format!("the story failed: {error:#}")),
        Err(error) => fail(&format!("the story broke off: {error}")),
    }
}

fn fail(text: &str) -> ExitCode {
    // Nobody can be told when standard error itself is gone.
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::FAILURE
}
