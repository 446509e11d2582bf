//! What Maven tells a project's repositories of the owner's, asked without the sandbox: a home with
//! settings of the test's own is nothing that a node can be given.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// A server with these files, that asks for a login, or that has nothing else; what it was asked.
fn server(files: Vec<(&'static str, String)>, asks: bool) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    // Ends with the process: a test has no other.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
            let head: Vec<String> = lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let head = head.join("\n");
            let file = files.iter().find(|(path, _)| head.contains(path));
            let (status, body) = match file {
                Some((_, text)) => ("200 OK", text.as_str()),
                None if asks && !head.contains("Authorization: ") => {
                    ("401 No\r\nwww-authenticate: Basic realm=x", "")
                }
                None => ("404 Not Found", ""),
            };
            heard.lock().expect("no holder panics").push(head);
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    });
    (format!("http://{address}/"), asked)
}

fn repository(id: &str, url: &str) -> String {
    format!("<repositories><repository><id>{id}</id><url>{url}</url></repository></repositories>")
}

fn dependency(group: &str) -> String {
    format!(
        "<dependencies><dependency><groupId>{group}</groupId><artifactId>y</artifactId>\
         <version>1</version></dependency></dependencies>"
    )
}

/// Resolves what a pom.xml asks for, as the pack's builder does.
fn resolve(folder: &Path, settings: &str, pom: &str) {
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("packs/java");
    let own = folder.join("own");
    fs::create_dir_all(own.join("META-INF/plexus")).expect("a folder");
    fs::create_dir_all(folder.join("layer")).expect("a folder");
    let parts = own.join("META-INF/plexus/components.xml");
    fs::copy(pack.join("maven-layer.xml"), parts).expect("it is there");
    fs::write(folder.join("settings.xml"), settings).expect("written");
    fs::write(folder.join("pom.xml"), pom).expect("written");
    let mvn = std::env::var_os("PATH").and_then(|path| {
        let mut all = std::env::split_paths(&path).map(|folder| folder.join("mvn"));
        fs::canonicalize(all.find(|path| path.is_file())?).ok()
    });
    let mvn = mvn.expect("there is Maven");
    let home = mvn.ancestors().nth(2).expect("it is in bin");
    let compiled = Command::new("javac")
        .args(["-proc:none", "-cp"])
        .arg(home.join("lib/*"))
        .arg("-d")
        .arg(&own)
        .arg(pack.join("Layer.java"))
        .status();
    assert!(compiled.expect("there is a compiler").success());
    let done = Command::new(mvn)
        .args(["-B", "-N", "-s", "settings.xml", "validate"])
        .arg("-Dmaven.repo.local=m2")
        .arg(format!("-Dmaven.ext.class.path={}", own.display()))
        .current_dir(folder)
        .env("LAYER", folder.join("layer"))
        .env("HELD", "t0ken")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(said.contains("Could not"), "{said}");
}

fn pom(group: &str, more: &str) -> String {
    format!(
        "<project><modelVersion>4.0.0</modelVersion><groupId>{group}</groupId>\
         <artifactId>y</artifactId><version>1</version>{more}</project>"
    )
}

/// Settings with a login for each of two names, and a repository for the first.
fn settings(owner: &str) -> String {
    let login = |id| {
        format!("<server><id>{id}</id><username>joe</username><password>s3cret</password></server>")
    };
    format!(
        "<settings><servers>{}{}</servers><profiles><profile><id>p</id>{}</profile></profiles>\
         <activeProfiles><activeProfile>p</activeProfile></activeProfiles><mirrors><mirror>\
         <id>owner</id><mirrorOf>central</mirrorOf><url>{owner}</url></mirror></mirrors></settings>",
        login("owner"),
        login("corp"),
        repository("owner", owner),
    )
}

fn heard(asked: &Mutex<Vec<String>>) -> String {
    asked.lock().expect("no holder panics").join("\n\n")
}

#[test]
fn passwords_of_the_owner_go_where_the_owners_settings_say() {
    let (owner, asked_owner) = server(Vec::new(), true);
    let (tenant, asked_tenant) = server(Vec::new(), true);
    let folder = tempfile::tempdir().expect("a folder");
    let asks = repository("corp", &tenant) + &dependency("x");
    resolve(folder.path(), &settings(&owner), &pom("f", &asks));
    let (owner, tenant) = (heard(&asked_owner), heard(&asked_tenant));
    assert!(owner.contains("Authorization: Basic"), "{owner}");
    assert!(tenant.contains("GET /x/y/1/y-1.pom "), "{tenant}");
    assert!(!tenant.contains("Authorization"), "{tenant}");
}

#[test]
fn a_dependency_names_no_repository_and_no_variable() {
    for group in ["w", "z.${env.HELD}"] {
        let (elsewhere, asked_elsewhere) = server(Vec::new(), false);
        let more = repository("elsewhere", &elsewhere) + &dependency(group);
        let files = vec![("/x/y/1/y-1.pom ", pom("x", &more))];
        let (tenant, asked_tenant) = server(files, false);
        let (owner, _) = server(Vec::new(), false);
        let folder = tempfile::tempdir().expect("a folder");
        let asks = repository("corp", &tenant) + &dependency("x");
        resolve(folder.path(), &settings(&owner), &pom("f", &asks));
        let (tenant, elsewhere) = (heard(&asked_tenant), heard(&asked_elsewhere));
        let further = tenant.contains("GET /w/y/1/y-1.pom ");
        assert_eq!(further, group == "w", "{tenant}");
        assert!(!tenant.contains("t0ken"), "{tenant}");
        assert!(elsewhere.is_empty(), "{elsewhere}");
    }
}
