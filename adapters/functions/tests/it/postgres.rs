//! The documentation's database example, on a real PostgreSQL server that insists on TLS.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use adapter_functions::{Endpoint, LayerSpec, NetworkPolicy};
use serde_json::{Value, json};

use crate::support::{call, example, example_json, node, revision, until};

/// PostgreSQL refuses to run as root; this is Debian's user for nobody in particular.
const NOBODY: u32 = 65534;
const PASSWORD: &str = "kept out of the logs";

struct Server {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.process.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).status();
        let _ = self.process.wait();
    }
}

fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = debian.chain(std::env::split_paths(&path));
    all.find(|folder| folder.join("initdb").is_file())
        .expect("PostgreSQL is installed")
}

/// A command that runs as somebody whom PostgreSQL accepts.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .current_dir("/")
        .env("LC_ALL", "C.UTF-8");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn is_root() -> bool {
    let own = std::fs::metadata("/proc/self").expect("there is /proc");
    std::os::unix::fs::MetadataExt::uid(&own) == 0
}

fn start() -> Server {
    let folder = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("a folder");
    let (data, password) = (folder.path().join("data"), folder.path().join("password"));
    std::fs::create_dir(&data).expect("makes it");
    std::fs::write(&password, PASSWORD).expect("writes");
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("generates");
    let (cert_file, key_file) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&cert_file, key.cert.pem()).expect("writes");
    std::fs::write(&key_file, key.signing_key.serialize_pem()).expect("writes");
    for private in [&data, &password, &key_file] {
        let mode = if private == &data { 0o700 } else { 0o600 };
        std::fs::set_permissions(private, std::fs::Permissions::from_mode(mode)).expect("sets");
        if is_root() {
            chown(private, Some(NOBODY), Some(NOBODY)).expect("gives away");
        }
    }
    let made = command(&programs().join("initdb"))
        .args([
            "--auth=scram-sha-256",
            "--username=dispatch",
            "--no-sync",
            "--encoding=UTF8",
        ])
        .arg(format!("--pwfile={}", password.display()))
        .arg(&data)
        .status()
        .expect("initdb runs");
    assert!(made.success());
    // Nothing but TLS is let in.
    std::fs::write(
        data.join("pg_hba.conf"),
        "hostssl all all 127.0.0.1/32 scram-sha-256\n",
    )
    .expect("writes");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = free.local_addr().expect("is bound").port();
    drop(free);
    let process = command(&programs().join("postgres"))
        .arg("-D")
        .arg(&data)
        .args([
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
            "-c",
            "ssl=on",
        ])
        .args(["-c", "fsync=off", "-c", &format!("port={port}")])
        .args(["-c", &format!("ssl_cert_file={}", cert_file.display())])
        .args(["-c", &format!("ssl_key_file={}", key_file.display())])
        .stderr(Stdio::null())
        .spawn()
        .expect("postgres starts");
    Server {
        process,
        port,
        _folder: folder,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_keeps_its_rows_in_the_bound_database() {
    let node = node();
    let server = start();
    let base = node
        .functions
        .base_image("python3", "")
        .await
        .expect("there is Python");
    let manifest = Some(example("postgres/requirements.txt"));
    let asks = LayerSpec {
        manifest,
        system_packages: Vec::new(),
    };
    let layer = node
        .functions
        .build_layer(&base, &asks)
        .await
        .expect("it builds");
    let address = ("127.0.0.1", server.port);
    until("the server listens", || {
        std::net::TcpStream::connect(address).is_ok()
    })
    .await;

    let mut function = revision("python3", "postgres.py", &example("postgres/postgres.py"));
    function.layer = layer.map(|layer| layer.digest);
    function.schema_in = Some(example_json("postgres/postgres.schema.json"));
    function.network = NetworkPolicy::Services;
    function.endpoints = vec![Endpoint::new("localhost", server.port)];
    let id = node.load(function).await;
    let binding = json!({
        "host": "localhost", "port": server.port.to_string(), "database": "postgres",
        "username": "dispatch", "password": PASSWORD, "sslRequired": "true",
        "tags": "[\"postgresql\"]", "uri": "postgresql://…",
    });
    let mut rows = Vec::new();
    for (n, name) in ["azure-pg", "azure-pg", "under-another-name"]
        .into_iter()
        .enumerate()
    {
        let row = json!({"num": n + 1, "data": format!("hello {n}")});
        rows.push(row.clone());
        let mut order = call(row);
        order.context["serviceBindings"] = json!({ name: binding });
        let done = node.functions.call(&id, order).await;
        assert_eq!(done.error, None, "{:?}", done.logs);
        assert_eq!(done.output, Value::Array(rows.clone()));
        let printed: Vec<String> = (0..=n)
            .map(|n| format!("num: {}, data: hello {n}", n + 1))
            .collect();
        assert_eq!(done.logs.stderr, printed);
    }
}
