//! HTTP in front of a function, beside what other people's servers do with the same function on the
//! same machine in the same minutes.

mod peers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use harness::process::{Dispatch, repository};

use self::peers::{PEERS, Peer, WASMTIME};
use crate::report::{Figure, Report};

/// Connections at once.
const LOADS: [u32; 3] = [1, 16, 64];
/// How long each load lasts.
const SECONDS: &str = "4";
/// For a peer to be installed and to answer.
const START_MAX: Duration = Duration::from_secs(60);

const BODY: &str = r#"{"name":"Jon","place":"Winterfell"}"#;
const PYTHON: &str = "def handle(context, payload):
    return {'myField': 'Hello, %s from %s' % (payload['name'], payload['place'])}
";
const NODE: &str = "module.exports = (context, payload) =>
    ({ myField: `Hello, ${payload.name} from ${payload.place}` });
";

pub(crate) fn run(report: &mut Report) -> Result<()> {
    if !has("wrk") {
        harness::say(
            "served: not measured: there is no wrk; install it with 'apt-get install wrk'",
        );
        return Ok(());
    }
    let folder = repository().join("target/peers");
    std::fs::create_dir_all(&folder)?;
    let script = folder.join("post.lua");
    std::fs::write(
        &script,
        format!(
            "wrk.method = 'POST'\nwrk.body = '{BODY}'\nwrk.headers['Content-Type'] = 'application/json'\n"
        ),
    )?;
    let ours = dispatch(report, &script, &folder)?;
    for peer in PEERS {
        let theirs = match theirs(report, peer, &folder, &script) {
            Ok(rate) => rate,
            Err(missing) => {
                harness::say(&format!("{}: not measured: {missing:#}", peer.name));
                continue;
            }
        };
        if let Some(own) = ours.get(peer.beside) {
            let ratio = format!("{}/{} at 16 connections", peer.beside, peer.name);
            harness::say(&format!("{:<34}  {ratio}: {:.1} times", "", own / theirs));
        }
    }
    Ok(())
}

/// A function of Dispatch.
struct Own {
    name: &'static str,
    language: &'static str,
    /// Where its source is.
    source: PathBuf,
}

/// What is measured of Dispatch; a component with an interpreter only where it could be built.
fn own(folder: &Path, peers: &Path) -> Result<Vec<Own>> {
    let component = wat::parse_str(include_str!("components/hello.wat"))?;
    let mut all = Vec::new();
    for (language, file, text) in [
        ("python3", "f.py", PYTHON.as_bytes()),
        ("nodejs", "f.js", NODE.as_bytes()),
        ("wasm", "f.wasm", &component),
    ] {
        let source = folder.join(file);
        std::fs::write(&source, text)?;
        let name = language;
        all.push(Own {
            name,
            language,
            source,
        });
    }
    let name = "wasm-python";
    match install(&WASMTIME, peers) {
        Ok(home) => all.push(Own {
            name,
            language: "wasm",
            source: home.join("function.wasm"),
        }),
        Err(missing) => harness::say(&format!("{name}: not measured: {missing:#}")),
    }
    Ok(all)
}

/// Dispatch with and without a run on record; the rate of each function without, at 16 connections.
fn dispatch(report: &mut Report, script: &Path, peers: &Path) -> Result<BTreeMap<String, f64>> {
    let dispatch = Dispatch::up();
    let folder = tempfile::tempdir()?;
    let mut rates = BTreeMap::new();
    for own in own(folder.path(), peers)? {
        let name = own.name;
        if let Err(missing) = serve(&dispatch, &own) {
            harness::say(&format!("{name}: not measured: {missing:#}"));
            continue;
        }
        let port = dispatch.config()["api-http-port"].clone();
        for way in ["direct", "run"] {
            for connections in LOADS {
                let url = format!("http://127.0.0.1:{port}/{way}/{name}");
                let figure = format!("http_{way}_{name}_c{connections}");
                let rate = load(report, figure, &url, connections, script)?;
                if (way, connections) == ("direct", 16) {
                    rates.insert(name.to_owned(), rate);
                }
            }
        }
    }
    Ok(rates)
}

/// Makes a function, and two APIs in front of it.
fn serve(dispatch: &Dispatch, own: &Own) -> Result<()> {
    let Own { name, language, .. } = own;
    let source = own.source.display().to_string();
    let base = format!("{name}-base");
    let (direct, run) = (format!("direct-{name}"), format!("run-{name}"));
    let (direct_path, run_path) = (format!("/direct/{name}"), format!("/run/{name}"));
    for words in [
        &[
            "create",
            "base-image",
            &base,
            "host",
            "--language",
            language,
        ][..],
        &["create", "image", name, &base],
        &["create", "function", name, &source, "--image", name],
        &[
            "create",
            "api",
            &direct,
            name,
            "--method",
            "POST",
            "--path",
            &direct_path,
            "--no-record",
        ],
        &[
            "create", "api", &run, name, "--method", "POST", "--path", &run_path,
        ],
    ] {
        let answered = dispatch.cli(&[words, &["--wait"]].concat());
        ensure!(answered.code == 0, "{}", answered.err.trim());
    }
    Ok(())
}

/// The folder of a peer, with everything that it takes to start it.
fn install(peer: &Peer, folder: &Path) -> Result<PathBuf> {
    let home = folder.join(peer.name);
    std::fs::create_dir_all(&home)?;
    for (name, text) in peer.files {
        std::fs::write(home.join(name), text)?;
    }
    let installed = home.join("installed");
    if !installed.exists() {
        let done = command(peer.install, &home, "")
            .stdin(Stdio::null())
            .output()?;
        ensure!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        std::fs::write(&installed, "")?;
    }
    Ok(home)
}

fn theirs(report: &mut Report, peer: &Peer, folder: &Path, script: &Path) -> Result<f64> {
    let home = install(peer, folder)?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port()
        .to_string();
    for (name, text) in peer.files {
        std::fs::write(home.join(name), text.replace("PORT", &port))?;
    }
    let since = Instant::now();
    let _server = Server(
        command(peer.start, &home, &port)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?,
    );
    let url = format!("http://127.0.0.1:{port}/");
    while !answers(&url) {
        ensure!(since.elapsed() < START_MAX, "it does not answer");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut at_16 = 1.0;
    for connections in LOADS {
        let rate = load(
            report,
            format!("peer_{}_c{connections}", peer.name),
            &url,
            connections,
            script,
        )?;
        if connections == 16 {
            at_16 = rate;
        }
    }
    Ok(at_16)
}

/// A peer that ends with its measurement.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        for pid in harness::descendants(self.0.id()) {
            adapter_sandbox::signal(pid, adapter_sandbox::Signal::Terminate);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(words: &[&str], home: &Path, port: &str) -> Command {
    let program: PathBuf = match home.join(words[0]) {
        own if own.exists() => own,
        _ => words[0].into(),
    };
    let mut command = Command::new(program);
    command
        .args(words[1..].iter().map(|word| word.replace("PORT", port)))
        .current_dir(home);
    command
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn answers(url: &str) -> bool {
    let asked = Command::new("curl")
        .args([
            "-s",
            "-m",
            "2",
            "-X",
            "POST",
            "-H",
            "Content-Type: application/json",
            "-d",
            BODY,
            url,
        ])
        .output();
    asked.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).contains("Winterfell"))
}

/// Loads a server from another process and returns the requests that it answered a second.
fn load(
    report: &mut Report,
    name: String,
    url: &str,
    connections: u32,
    script: &Path,
) -> Result<f64> {
    let said = Command::new("wrk")
        .args([
            "-t1",
            "-c",
            &connections.to_string(),
            "-d",
            SECONDS,
            "--latency",
            "-s",
        ])
        .arg(script)
        .arg(url)
        .output()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    if text.contains("Non-2xx") {
        bail!("{url}: {text}");
    }
    let word = |line: &str| {
        let found = text.lines().find(|all| all.trim_start().starts_with(line));
        found.and_then(|all| all.split_whitespace().last().map(str::to_owned))
    };
    let rate: f64 = word("Requests/sec:").context("wrk told no rate")?.parse()?;
    let mut figure = Figure::named(name);
    figure.p50_ms = word("50%").and_then(|text| milliseconds(&text));
    figure.p99_ms = word("99%").and_then(|text| milliseconds(&text));
    figure.per_s = Some(rate);
    report.add(figure);
    Ok(rate)
}

/// A time as wrk writes it: `277.00us`, `1.13ms`, `2.00s`.
fn milliseconds(text: &str) -> Option<f64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * scale)
}
