//! A registry that breaks off and lies, which a real one cannot be asked to do.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;

/// What is served, by path; of each blob, how much before the connection is closed, each time.
#[derive(Default)]
struct Served {
    documents: HashMap<String, Vec<u8>>,
    cuts: Mutex<HashMap<String, Vec<usize>>>,
    requests: AtomicUsize,
}

impl Served {
    /// Adds a blob, and says what a manifest says of it.
    fn add(&mut self, bytes: &[u8]) -> serde_json::Value {
        let digest = digest_of(bytes);
        self.documents
            .insert(format!("/v2/x/blobs/{digest}"), bytes.to_vec());
        json!({"mediaType": "", "digest": digest, "size": bytes.len()})
    }

    fn manifest(&mut self, config: serde_json::Value, layers: &[serde_json::Value]) {
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let bytes = manifest.to_string().into_bytes();
        self.documents.insert("/v2/x/manifests/1".into(), bytes);
    }

    fn start(self) -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let served = Arc::new(self);
        let all = Arc::clone(&served);
        // Ends with the process: a test has no other.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = all.answer(stream);
            }
        });
        (served, format!("{address}/x:1"))
    }

    fn answer(&self, mut stream: std::net::TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().unwrap_or(Ok(String::new()))?;
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut from = 0;
        for line in lines {
            let line = line?.to_ascii_lowercase();
            if let Some(range) = line.strip_prefix("range: bytes=") {
                from = range
                    .split('-')
                    .next()
                    .and_then(|n| n.parse().ok())
                    .unwrap_or(0);
            }
            if line.is_empty() {
                break;
            }
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let Some(whole) = self.documents.get(&path) else {
            let status = if path == "/v2/" {
                "200 OK"
            } else {
                "404 Not Found"
            };
            return write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
            );
        };
        let rest = &whole[from..];
        let status = if from > 0 {
            "206 Partial Content"
        } else {
            "200 OK"
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            rest.len()
        )?;
        let mut cuts = self.cuts.lock().expect("no holder panics");
        let cut = cuts.get_mut(&path).and_then(Vec::pop).unwrap_or(usize::MAX);
        stream.write_all(&rest[..rest.len().min(cut)])
    }
}

fn archive(content: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "file", content.as_bytes())
        .expect("memory");
    builder.into_inner().expect("memory")
}

fn config(layer: &[u8], architecture: &str) -> Vec<u8> {
    let config = json!({
        "os": "linux",
        "architecture": architecture,
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
    });
    config.to_string().into_bytes()
}

/// A registry with an image of one layer, and that layer's path.
fn image(architecture: &str) -> (Served, String) {
    let layer = archive(&"0123456789".repeat(2000));
    let mut served = Served::default();
    let described = served.add(&layer);
    let config = served.add(&config(&layer, architecture));
    served.manifest(config, &[described]);
    (served, format!("/v2/x/blobs/{}", digest_of(&layer)))
}

async fn had(url: &str) -> Result<Root, Failure> {
    had_with(url, config::Images::default()).await
}

async fn had_with(url: &str, settings: config::Images) -> Result<Root, Failure> {
    let state = tempfile::tempdir().expect("a folder");
    let blobs = Arc::new(adapter_kit::MemoryBlobs::default());
    let images = Images::open(state.path(), settings, blobs).expect("it opens");
    let root = images.root(&Place::parse(url)?, None).await?;
    let file = std::fs::read(root.path.join("file")).expect("it is there");
    assert_eq!(file.len(), 20_000);
    let scratch = state.path().join("oci/scratch");
    assert_eq!(std::fs::read_dir(scratch).expect("it is there").count(), 0);
    Ok(root)
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    let (served, layer) = image(manifest::architecture());
    let cuts = HashMap::from([(layer, vec![5000, 0, 1, 3000])]);
    *served.cuts.lock().expect("no holder panics") = cuts;
    let (served, url) = served.start();
    had(&url).await.expect("it is had in the end");
    // The manifest, the configuration, and the layer five times.
    assert_eq!(served.requests.load(Ordering::Relaxed), 7);
}

#[tokio::test]
async fn a_blob_with_another_content_is_refused() {
    let (mut served, layer) = image(manifest::architecture());
    served.documents.get_mut(&layer).expect("it is there")[600] ^= 1;
    let failure = had(&served.start().1).await.expect_err("it is damaged");
    assert!(failure.reason.contains("digest"), "{failure}");
    assert!(!failure.transient, "{failure}");
}

#[tokio::test]
async fn a_blob_that_is_longer_than_it_should_be_is_refused() {
    let (mut served, layer) = image(manifest::architecture());
    served
        .documents
        .get_mut(&layer)
        .expect("it is there")
        .extend([0; 4096]);
    let failure = had(&served.start().1).await.expect_err("it is too long");
    assert!(failure.reason.contains("longer than"), "{failure}");
}

#[tokio::test]
async fn a_blob_that_always_ends_early_is_refused_after_some_attempts() {
    let (mut served, layer) = image(manifest::architecture());
    served
        .documents
        .get_mut(&layer)
        .expect("it is there")
        .truncate(700);
    let failure = had(&served.start().1).await.expect_err("it is too short");
    assert!(failure.reason.contains("127.0.0.1"), "{failure}");
}

#[tokio::test]
async fn an_image_for_another_machine_is_refused() {
    let (served, _) = image("pdp11");
    let failure = had(&served.start().1).await.expect_err("no PDP-11 is here");
    assert!(failure.reason.contains("linux/pdp11"), "{failure}");
}

#[tokio::test]
async fn an_image_that_does_not_come_is_given_up_and_holds_up_no_other() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("it is bound");
    let state = tempfile::tempdir().expect("a folder");
    let settings = config::Images {
        pull_max: Duration::from_secs(5),
        ..config::Images::default()
    };
    let blobs = Arc::new(adapter_kit::MemoryBlobs::default());
    let images = Images::open(state.path(), settings, blobs).expect("it opens");
    let stuck = Place::parse(&format!("{address}/x:1")).expect("it is a reference");
    let (served, _) = image(manifest::architecture());
    let fine = Place::parse(&served.start().1).expect("it is a reference");
    let (mut stuck, fine) = (
        Box::pin(images.root(&stuck, None)),
        images.root(&fine, None),
    );
    tokio::select! {
        biased;
        _ = &mut stuck => panic!("the silent registry was not waited for"),
        root = fine => drop(root.expect("it is had meanwhile")),
    }
    let failure = stuck.await.expect_err("nothing comes");
    assert!(failure.reason.contains("within 5s"), "{failure}");
}

/// Answers each request with what `answer` says of it, until the process ends: a test has no other.
fn registry(answer: impl Fn(&str, &mut std::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
            let head: Vec<String> = lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            answer(&head.join("\n"), &mut stream);
        }
    });
    address
}

#[tokio::test]
async fn a_manifest_without_an_end_is_not_waited_for() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let address = registry(move |_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
        while stream.write_all(&[b' '; 65536]).is_ok() {
            counted.fetch_add(65536, Ordering::Relaxed);
        }
    });
    let failure = had(&format!("{address}/x:1")).await;
    let failure = failure.expect_err("it never ends");
    assert!(failure.reason.contains("longer than 4194304"), "{failure}");
    // What was on its way when the reader left.
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 32 << 20, "{sent} bytes were taken in");
}

#[tokio::test]
async fn a_token_without_an_end_is_not_waited_for_and_neither_is_a_reason() {
    for asks in [true, false] {
        let address = registry(move |head, stream| {
            let wanted = head.starts_with("GET /token") || !asks;
            if !wanted {
                let host = head.lines().find_map(|line| line.strip_prefix("host: "));
                let host = host.unwrap_or_default();
                let _ = write!(
                    stream,
                    "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer \
                     realm=\"http://{host}/token\"\r\ncontent-length: 0\r\n\
                     connection: close\r\n\r\n"
                );
                return;
            }
            let status = if asks { "200 OK" } else { "418 No" };
            let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
            while stream.write_all(&[b' '; 65536]).is_ok() {}
        });
        let failure = had(&format!("{address}/x:1")).await;
        let reason = failure.expect_err("it never ends").reason;
        let expected = if asks {
            "gave no token"
        } else {
            "answered 418"
        };
        assert!(reason.contains(expected), "{reason}");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_with_the_login_and_shown_from_then_on() {
    let (served, _) = image(manifest::architecture());
    let documents = served.documents.clone();
    let address = registry(move |head, stream| {
        let host = head.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.unwrap_or_default();
        let has = |line: &str| head.lines().any(|known| known == line);
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (status, more, body) = if path.starts_with("/token") {
            let right = has("authorization: Basic am9lOm9wZW4=")
                && path == "/token?scope=repository%3Ax%3Apull&service=the+registry";
            match right {
                true => ("200 OK", String::new(), br#"{"token":"t0ken"}"#.to_vec()),
                false => ("401 Unauthorized", String::new(), Vec::new()),
            }
        } else if has("authorization: Bearer t0ken") {
            match documents.get(path) {
                Some(document) => ("200 OK", String::new(), document.clone()),
                None => ("404 Not Found", String::new(), Vec::new()),
            }
        } else {
            let realm = format!(
                "www-authenticate: Bearer realm=\"http://{host}/token\",service=\"the registry\"\r\n"
            );
            ("401 Unauthorized", realm, Vec::new())
        };
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\n{more}content-length: {length}\r\nconnection: close\r\n\r\n"
        );
        let _ = stream.write_all(&body);
    });
    let url = format!("{address}/x:1");
    let failure = had(&url).await.expect_err("nobody is logged in");
    assert!(failure.reason.contains("does not let anybody"), "{failure}");
    had_as_joe(&address).await.expect("joe may read it");
}

/// Reads an image of this registry with a login that is noted for it.
async fn had_as_joe(address: &str) -> Result<Root, Failure> {
    let logins = tempfile::NamedTempFile::new().expect("a file");
    let text = json!({"auths": {address: {"auth": "am9lOm9wZW4="}}});
    std::fs::write(logins.path(), text.to_string()).expect("it is written");
    let settings = config::Images {
        credentials: Some(logins.path().to_owned()),
        ..config::Images::default()
    };
    had_with(&format!("{address}/x:1"), settings).await
}

#[tokio::test]
async fn nobody_else_is_shown_a_login_to_whom_a_registry_sends_its_readers() {
    for challenge in ["Basic realm=x", "Bearer realm=\"http://HOST/token\""] {
        let shown = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&shown);
        let other = registry(move |head, stream| {
            seen.lock().expect("no holder panics").push(head.to_owned());
            let host = head.lines().find_map(|line| line.strip_prefix("host: "));
            let challenge = challenge.replace("HOST", host.unwrap_or_default());
            let _ = write!(
                stream,
                "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: {challenge}\r\n\
                 content-length: 0\r\nconnection: close\r\n\r\n"
            );
        });
        let address = registry(move |_, stream| {
            let _ = write!(
                stream,
                "HTTP/1.1 307 There\r\nlocation: http://{other}/there\r\n\
                 content-length: 0\r\nconnection: close\r\n\r\n"
            );
        });
        let failure = had_as_joe(&address).await.expect_err("it is not given");
        assert!(failure.reason.contains("does not let"), "{failure}");
        let shown = shown.lock().expect("no holder panics");
        assert_eq!(shown.len(), 1, "{shown:?}");
        assert!(!shown[0].contains("authorization"), "{shown:?}");
    }
}

#[tokio::test]
async fn a_registry_sends_its_readers_on_a_few_times_only() {
    let address = registry(move |_, stream| {
        let _ = write!(
            stream,
            "HTTP/1.1 307 On\r\nlocation: /on\r\ncontent-length: 0\r\n\
             connection: close\r\n\r\n"
        );
    });
    let failure = had(&format!("{address}/x:1")).await;
    let failure = failure.expect_err("it never ends");
    assert!(failure.reason.contains("more than 4 times"), "{failure}");
    assert!(!failure.transient, "{failure}");
}
