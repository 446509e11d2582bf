//! A platform that is not ours: a client generated from the OpenAPI document of the specification
//! (crate `rocl`), and PostgreSQL's own `psql` as the application.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{
    LARGE, PASSWORD, PLANS, SMALL, SharedServer, TestBroker, USERNAME, plans_config,
};

/// Builds the client; nothing if its sources cannot be had here.
fn build() -> Option<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target)
        .output()
        .unwrap();
    if built.status.success() {
        return Some(target.join("debug/foreign-client"));
    }
    let said = String::from_utf8_lossy(&built.stderr);
    let not_to_be_had = ["failed to download", "failed to get", "Unable to update"];
    assert!(
        not_to_be_had.iter().any(|words| said.contains(words)),
        "{said}"
    );
    skip(&said);
    None
}

#[expect(clippy::print_stderr, reason = "who runs the tests must see it")]
fn skip(why: &str) {
    eprintln!("SKIPPED: no client that is not ours was run, for its sources cannot be had: {why}");
}

struct Client {
    program: PathBuf,
    url: String,
    plan: &'static str,
}

impl Client {
    /// Takes a step, and says what came of it.
    async fn step(&self, words: &[&str]) -> Result<Value, String> {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(words)
            .env("BROKER_URL", &self.url)
            .env("BROKER_USERNAME", USERNAME)
            .env("BROKER_PASSWORD", PASSWORD)
            .env("BROKER_SERVICE", PLANS)
            .env("BROKER_PLAN", self.plan);
        let output = command.output().await.unwrap();
        if output.status.success() {
            Ok(serde_json::from_slice(&output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

/// What psql prints for a statement with the credentials of a binding.
async fn psql(binding: &Value, sql: &str) -> Result<String, String> {
    let text = |field: &str| binding["credentials"][field].as_str().unwrap();
    let mut command = tokio::process::Command::new("psql");
    command
        .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
        .args(["--no-password", "--command", sql])
        .env("PGHOST", text("host"))
        .env("PGPORT", text("port"))
        .env("PGDATABASE", text("database"))
        .env("PGUSER", text("username"))
        .env("PGPASSWORD", text("password"))
        .env("PGSSLMODE", "require");
    let output = command.output().await.expect("psql is installed");
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[tokio::test]
async fn a_client_that_is_not_ours_takes_an_instance_through_its_life() {
    let Some(program) = build() else { return };
    let (server, state) = (SharedServer::start(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(plans_config(state.path(), &server, |text| text)).await;
    let url = broker.platform.url().to_owned();
    let mut client = Client {
        program,
        url,
        plan: SMALL,
    };
    let catalog = client.step(&["catalog"]).await.unwrap();
    assert_eq!(catalog["services"][0]["id"], PLANS);
    assert_eq!(client.step(&["provision", "i"]).await.unwrap(), "succeeded");
    assert_eq!(client.step(&["bind", "i", "b"]).await.unwrap(), "succeeded");
    let old = client.step(&["fetch-binding", "i", "b"]).await.unwrap();
    let made = "CREATE TABLE notes (text citext); INSERT INTO notes VALUES ('Kept')";
    psql(&old, made).await.unwrap();

    let updated = client.step(&["update", "i", LARGE]).await;
    assert_eq!(updated.unwrap(), "succeeded");
    client.plan = LARGE;
    let fetched = client.step(&["fetch", "i"]).await.unwrap();
    assert_eq!(fetched["plan_id"], LARGE);
    let rotated = client.step(&["rotate", "i", "c", "b"]).await;
    assert_eq!(rotated.unwrap(), "succeeded");
    let new = client.step(&["fetch-binding", "i", "c"]).await.unwrap();
    assert_eq!(psql(&old, "SELECT 1").await.as_deref(), Ok("1"));
    assert_eq!(client.step(&["unbind", "i", "b"]).await.unwrap(), "gone");
    assert!(psql(&old, "SELECT 1").await.is_err());
    let found = psql(&new, "SELECT text FROM notes WHERE text = 'kept'").await;
    assert_eq!(found.as_deref(), Ok("Kept"));

    assert_eq!(client.step(&["unbind", "i", "c"]).await.unwrap(), "gone");
    assert_eq!(client.step(&["deprovision", "i"]).await.unwrap(), "gone");
    let again = client.step(&["deprovision", "i"]).await.unwrap_err();
    assert!(again.contains("410"), "{again}");
    assert!(server.objects().await.is_empty());
}
