//! The conversation with the node: ready, one function, then one call after another.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::channel::Channel;
use crate::machine::{Fault, Ground, Kind, Machine};

/// The version of wasmtime in this program.
pub const WASMTIME: &str = "48.0.8";
/// Where the node mounts the folder for what is compiled, as the pack says.
const COMPILED_DIR: &str = "/compiled";
const MEMORY: &str = "--memory=";
/// The memory of an instance when nobody bounds it: all that 32 bits can address.
const MEMORY_BYTES_MAX: usize = 4 << 30;
/// Twice what the components may take, which is what their nesting is bounded by.
const STACK_BYTES: usize = 16 << 20;
/// A call is ended so long before its deadline that the node hears of it in time, and has no reason
/// to end the whole worker.
const BEFORE_DEADLINE: Duration = Duration::from_millis(10);

#[derive(Deserialize)]
struct Order<'a> {
    #[serde(borrow)]
    init: Option<Init<'a>>,
    call: Option<u64>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Init<'a> {
    #[serde(borrow)]
    files: Vec<(String, &'a RawValue, bool)>,
    handler: String,
}

#[derive(Deserialize)]
struct Deadline {
    deadline: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct Failed<'a> {
    err: u64,
    #[serde(rename = "type")]
    kind: &'a str,
    message: &'a str,
    stacktrace: &'a [String],
}

/// What follows `wasm-worker` and precedes it, if a program was started to be one: the pack puts the
/// memory limit first.
pub fn worker_arguments(arguments: impl Iterator<Item = String>) -> Option<Vec<String>> {
    let mut arguments: Vec<String> = arguments.collect();
    let limits = |argument: &&String| argument.starts_with(MEMORY);
    let at = arguments.iter().take_while(limits).count();
    (arguments.get(at)? == "wasm-worker").then(|| {
        arguments.remove(at);
        arguments
    })
}

/// Serves as the worker on descriptor 3 until the node hangs up; with `--identify` it says which
/// interpreter this is instead, as packs are asked to.
pub fn worker_main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let mut bytes_max = MEMORY_BYTES_MAX;
    for argument in arguments {
        if argument == "--identify" {
            return identify();
        }
        let megabytes = argument.strip_prefix(MEMORY).map(str::parse::<usize>);
        if let Some(Ok(megabytes)) = megabytes {
            bytes_max = (megabytes << 20).min(MEMORY_BYTES_MAX);
        }
    }
    // Components nest on this thread's stack.
    let serving = thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || serve(bytes_max));
    let served = serving.map(thread::JoinHandle::join);
    match served {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        Ok(Ok(Err(error))) | Err(error) => {
            let _ = writeln!(io::stderr(), "wasm-worker: {error}");
            ExitCode::FAILURE
        }
        Ok(Err(_)) => ExitCode::FAILURE, // the panic has been told
    }
}

fn identify() -> ExitCode {
    let exe = std::env::current_exe().unwrap_or_default();
    // It is all there is of the interpreter, and so the folder that it lives in as well.
    let said = writeln!(io::stdout(), "{WASMTIME}\n{0}\n{0}", exe.display());
    said.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn serve(bytes_max: usize) -> io::Result<()> {
    let mut channel = Channel::take()?;
    let mut machine = None;
    channel.send(json!({"ready": 1, "version": WASMTIME}).to_string())?;
    // While nobody waits for it, or at least beside whoever does.
    let lay = || Ground::lay(Path::new(COMPILED_DIR), bytes_max);
    let mut ground = Some(lay());
    while let Some(line) = channel.receive()? {
        let order: Order<'_> = serde_json::from_str(&line)?;
        match (order, &mut machine) {
            (
                Order {
                    init: Some(init), ..
                },
                _,
            ) => match load(&init, ground.take().unwrap_or_else(lay)) {
                Ok(loaded) => {
                    machine = Some(loaded);
                    io::stdout().flush()?;
                    channel.send(json!({"ready": 1}).to_string())?;
                }
                Err(reason) => channel.send(json!({"fail": reason}).to_string())?,
            },
            (
                Order {
                    call: Some(id),
                    context: Some(context),
                    payload: Some(payload),
                    ..
                },
                Some(machine),
            ) => {
                let (context, payload) = (context.get(), payload.get());
                let answer = machine.call(context, payload, until(context));
                io::stdout().flush()?;
                channel.send(match answer {
                    Ok(result) => format!("{{\"ok\":{id},\"payload\":{result}}}"),
                    Err(fault) => failed(id, &fault),
                })?;
                machine.make_ready();
            }
            _ => return Err(io::Error::other("that is neither a function nor a call")),
        }
    }
    Ok(())
}

fn load(init: &Init<'_>, ground: Result<Ground, String>) -> Result<Machine, String> {
    let path = init.handler.strip_prefix("./").unwrap_or(&init.handler);
    let component = || {
        let mut files = init.files.iter();
        let file = files.find(|(name, ..)| name == path);
        let (_, text, packed) = file.ok_or_else(|| format!("{path} does not exist"))?;
        let text: String = serde_json::from_str(text.get()).map_err(|e| e.to_string())?;
        if *packed {
            STANDARD.decode(text).map_err(|e| format!("{path}: {e}"))
        } else {
            Ok(text.into_bytes())
        }
    };
    Machine::load(ground?, component, Path::new(COMPILED_DIR))
}

/// When a call is to be ended, if its context says when it is over.
fn until(context: &str) -> Option<Instant> {
    let context: Deadline = serde_json::from_str(context).ok()?;
    let left = SystemTime::from(context.deadline?).duration_since(SystemTime::now());
    let left = left.unwrap_or_default();
    Some(Instant::now() + left.saturating_sub(BEFORE_DEADLINE.min(left / 10)))
}

fn failed(id: u64, fault: &Fault) -> String {
    let kind = match fault.kind {
        Kind::Input => "InputError",
        Kind::Function => "FunctionError",
        Kind::System => "SystemError",
    };
    let failed = Failed {
        err: id,
        kind,
        message: &fault.message,
        stacktrace: &fault.stacktrace,
    };
    serde_json::to_string(&failed).expect("strings always serialise")
}
