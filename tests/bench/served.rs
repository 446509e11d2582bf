//! HTTP in front of a function, beside what other people's servers do with the same function on the
//! same machine in the same minutes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use harness::process::{Dispatch, repository};

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

/// One server that answers the same request.
struct Peer {
    name: &'static str,
    /// Files that it is given, and what installs it below its folder.
    files: &'static [(&'static str, &'static str)],
    install: &'static [&'static str],
    /// The program and its arguments; `PORT` stands for its port.
    start: &'static [&'static str],
}

const PEERS: &[Peer] = &[
    Peer {
        name: "functions-framework_python",
        files: &[(
            "main.py",
            "def hello(request):
    body = request.get_json()
    return {'myField': 'Hello, %s from %s' % (body['name'], body['place'])}
",
        )],
        install: &[
            "sh",
            "-c",
            "python3 -m venv env && env/bin/pip install -q functions-framework==3.10.2",
        ],
        start: &[
            "env/bin/functions-framework",
            "--target",
            "hello",
            "--port",
            "PORT",
        ],
    },
    Peer {
        name: "functions-framework_node",
        files: &[(
            "index.js",
            "exports.hello = (request, response) => response.json(
    { myField: `Hello, ${request.body.name} from ${request.body.place}` });
",
        )],
        install: &[
            "npm",
            "install",
            "--silent",
            "@google-cloud/functions-framework@5.0.5",
        ],
        start: &[
            "node_modules/.bin/functions-framework",
            "--target=hello",
            "--port=PORT",
        ],
    },
    Peer {
        name: "workerd",
        files: &[
            (
                "worker.js",
                "export default { async fetch(request) {
    const body = await request.json();
    return Response.json({ myField: `Hello, ${body.name} from ${body.place}` });
} };
",
            ),
            (
                "config.capnp",
                "using Workerd = import \"/workerd/workerd.capnp\";
const config :Workerd.Config = (
  services = [(name = \"main\", worker = .hello)],
  sockets = [(name = \"http\", address = \"127.0.0.1:PORT\", http = (), service = \"main\")]);
const hello :Workerd.Worker = (
  modules = [(name = \"worker.js\", esModule = embed \"worker.js\")],
  compatibilityDate = \"2025-01-01\");
",
            ),
        ],
        install: &["npm", "install", "--silent", "workerd"],
        start: &["node_modules/.bin/workerd", "serve", "config.capnp"],
    },
    Peer {
        name: "deno",
        files: &[(
            "serve.js",
            "export default { async fetch(request) {
    const body = await request.json();
    return Response.json({ myField: `Hello, ${body.name} from ${body.place}` });
} };
",
        )],
        install: &["npm", "install", "--silent", "deno"],
        start: &[
            "node_modules/.bin/deno",
            "serve",
            "--host",
            "127.0.0.1",
            "--port",
            "PORT",
            "serve.js",
        ],
    },
];

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
    let ours = dispatch(report, &script)?;
    for peer in PEERS {
        match theirs(report, peer, &folder, &script) {
            Ok(rate) => harness::say(&format!(
                "{:<34}  python/{} at 16 connections: {:.1} times",
                "",
                peer.name,
                ours / rate
            )),
            Err(missing) => harness::say(&format!("{}: not measured: {missing:#}", peer.name)),
        }
    }
    Ok(())
}

/// Dispatch with and without a run on record; the rate of Python without, at 16 connections.
fn dispatch(report: &mut Report, script: &Path) -> Result<f64> {
    let dispatch = Dispatch::up();
    let folder = tempfile::tempdir()?;
    for (language, file, text) in [("python3", "f.py", PYTHON), ("nodejs", "f.js", NODE)] {
        let path = folder.path().join(file);
        std::fs::write(&path, text)?;
        let path = path.display().to_string();
        let base = format!("{language}-base");
        for words in [
            vec![
                "create",
                "base-image",
                &base,
                "host",
                "--language",
                language,
            ],
            vec!["create", "image", language, &base],
            vec!["create", "function", language, &path, "--image", language],
            vec![
                "create",
                "api",
                &format!("direct-{language}"),
                language,
                "--method",
                "POST",
                "--path",
                &format!("/direct/{language}"),
                "--no-record",
            ],
            vec![
                "create",
                "api",
                &format!("run-{language}"),
                language,
                "--method",
                "POST",
                "--path",
                &format!("/run/{language}"),
            ],
        ] {
            let _ = dispatch.cli(&[words, vec!["--wait"]].concat()).ok();
        }
    }
    let port = dispatch.config()["api-http-port"].clone();
    let mut best = 0.0;
    for language in ["python3", "nodejs"] {
        for way in ["direct", "run"] {
            for connections in LOADS {
                let url = format!("http://127.0.0.1:{port}/{way}/{language}");
                let name = format!("http_{way}_{language}_c{connections}");
                let rate = load(report, name, &url, connections, script)?;
                if (language, way, connections) == ("python3", "direct", 16) {
                    best = rate;
                }
            }
        }
    }
    Ok(best)
}

fn theirs(report: &mut Report, peer: &Peer, folder: &Path, script: &Path) -> Result<f64> {
    let home = folder.join(peer.name);
    std::fs::create_dir_all(&home)?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port()
        .to_string();
    for (name, text) in peer.files {
        std::fs::write(home.join(name), text.replace("PORT", &port))?;
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
