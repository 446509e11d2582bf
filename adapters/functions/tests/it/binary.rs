//! Executables: started for each call, or once for all of them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use adapter_functions::{ErrorType, Revision, Source};
use serde_json::{Value, json};

use crate::support::{call, error, example, example_json, node, revision};

fn script(text: &str) -> Revision {
    revision("binary", "main.sh", &format!("#!/bin/bash\n{text}"))
}

/// A gzipped tar of these files.
fn archive(files: &[(&str, &[u8])]) -> Source {
    let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).expect("appends");
    }
    let mut gz = tar.into_inner().expect("finishes");
    gz.flush().expect("flushes");
    Source::Archive(gz.finish().expect("packs").into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_script_says_hello() {
    let node = node();
    let mut hello = revision("binary", "hello.sh", &example("binary/hello.sh"));
    hello.schema_in = Some(example_json("hello.in.json"));
    hello.schema_out = Some(example_json("hello.out.json"));
    let id = node.load(hello).await;
    for n in 0..3 {
        let name = format!("Jon{n}");
        let done = node
            .call(&id, json!({"name": name, "place": "Winterfell"}))
            .await;
        let expected = json!({"myField": format!("Hello, {name} from Winterfell")});
        assert_eq!(done.output, expected, "{:?}", done.error);
        assert_eq!(done.logs.stdout, [format!("greeting {name}")]);
    }
    let noone = json!({"myField": "Hello, Noone from Nowhere"});
    assert_eq!(node.output(&id, json!({})).await, noone);
    assert_eq!(node.functions.stats().workers, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_in_which_an_executable_fails_is_told() {
    let node = node();
    let mut failing = script(
        r#"read -r request <&3
        case $request in
            *input*) echo '{"error":{"type":"InputError","message":"bad \"value\"","stacktrace":["line 3"]}}' >&3 ;;
            *plain*) echo '{"error":{"message":"broke"}}' >&3 ;;
            *status*) exit 3 ;;
            *signal*) kill -9 $$ ;;
            *silent*) ;;
            *garbage*) echo 'nonsense' >&3 ;;
            *neither*) echo '{}' >&3 ;;
            *twice*) printf '{"payload":1}\n{"payload":2}\n' >&3 ;;
            *sleep*) sleep 1000 ;;
            *) echo '{"payload":"fine"}' >&3; exit 1 ;;
        esac"#,
    );
    failing.timeout_ms = 2000;
    let id = node.load(failing).await;
    for (which, kind, message) in [
        ("input", ErrorType::InputError, "bad \"value\""),
        ("plain", ErrorType::FunctionError, "broke"),
        (
            "status",
            ErrorType::FunctionError,
            "its process exited with status 3 without a reply",
        ),
        (
            "signal",
            ErrorType::FunctionError,
            "its process was ended by signal 9 without a reply",
        ),
        (
            "silent",
            ErrorType::FunctionError,
            "its process exited with status 0 without a reply",
        ),
        (
            "garbage",
            ErrorType::FunctionError,
            "its reply is no JSON object on one line",
        ),
        (
            "neither",
            ErrorType::FunctionError,
            "its reply has neither a payload nor an error",
        ),
        (
            "twice",
            ErrorType::FunctionError,
            "it wrote more than one line as its reply",
        ),
        (
            "sleep",
            ErrorType::FunctionError,
            "Function execution exceeded the timeout",
        ),
    ] {
        let done = node.call(&id, json!(which)).await;
        let error = error(&done, kind);
        assert_eq!(error.message, message, "{which}");
        if which == "input" {
            assert_eq!(error.stacktrace, ["line 3"]);
        }
    }
    assert_eq!(node.output(&id, Value::Null).await, json!("fine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_replies_and_the_files_of_services_reach_an_executable() {
    let node = node();
    let id = node
        .load(script(
            "read -r request <&3\nreply=${request#*\\\"payload\\\":}\n\
             echo \"{\\\"payload\\\":[\\\"$(cat $SERVICE_BINDING_ROOT/pg/password)\\\",${reply%\\}}]}\" >&3",
        ))
        .await;
    let text = "ü\\\"x".repeat(60_000);
    for password in ["one", "two"] {
        let mut order = call(json!(text));
        order.context = json!({"serviceBindings": {"pg": {"password": password}}});
        order.services = vec![adapter_kit::ServiceFacts {
            name: engine_model::Name::new("pg").expect("it is a name"),
            class: "postgresql".into(),
            provider: "local".into(),
        }];
        let done = node.functions.call(&id, order).await;
        assert_eq!(done.error, None, "{:?}", done.logs);
        assert!(
            done.output == json!([password, text]),
            "it came back changed"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_stays_speaks_with_the_node_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("counter");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/binary/counter.c");
    let built = Command::new("cc")
        .arg("-o")
        .args([&program, &source])
        .status();
    assert!(built.expect("there is a C compiler").success());
    let bytes = std::fs::read(&program).expect("it was built");
    let node = node();
    let mut counter = revision("binary", "counter", "");
    counter.source = archive(&[("bin/counter", &bytes), ("data.txt", b"x")]);
    counter.handler = "bin/counter worker".into();
    let id = node.load(counter).await;
    for n in 1..4 {
        let done = node.call(&id, json!("x")).await;
        assert_eq!(done.output, json!(n), "{:?}", done.error);
        assert_eq!(done.logs.stdout, [format!("call {n}")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_executable_has_exactly_one_reason() {
    let node = node();
    for (text, said) in [
        (
            "echo hello\n",
            "./main is neither a program nor a script that begins with #!",
        ),
        (
            "#!/usr/bin/no-such\n",
            "./main wants /usr/bin/no-such, which this base image does not have",
        ),
    ] {
        let reason = node.reason(revision("binary", "main", text)).await;
        assert_eq!(reason, format!("Invalid function file or handler: {said}"));
    }
    let mut absent = script("");
    absent.handler = "./other".into();
    let reason = node.reason(absent).await;
    assert!(
        reason.ends_with("./other: No such file or directory"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_an_executable_leaves_behind_ends_with_the_worker() {
    let node = node();
    let id = node
        .load(script(
            "read -r request <&3\nls /tmp/mark >/dev/null 2>&1; seen=$?; touch /tmp/mark\n\
             case $request in *leave*) sleep 1000 3>&- & ;; esac\necho \"{\\\"payload\\\":$seen}\" >&3",
        ))
        .await;
    assert_eq!(node.output(&id, json!("")).await, json!(2));
    assert_eq!(node.output(&id, json!("leave")).await, json!(0));
    assert_eq!(
        node.output(&id, json!("")).await,
        json!(2),
        "it is another worker"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_only_looks_like_json_is_the_functions_error() {
    let node = node();
    let id = node
        .load(script(
            r#"read -r request <&3
        case $request in
            *control*) printf '{"payload":"a\tb"}\n' >&3 ;;
            *encoding*) printf '{"payload":"\xff"}\n' >&3 ;;
            *surrogate*) printf '{"payload":"\xed\xa0\x80"}\n' >&3 ;;
            *zero*) echo '{"payload":01}' >&3 ;;
            *number*) echo '{"payload":1.e+}' >&3 ;;
            *escape*) echo '{"payload":"\q"}' >&3 ;;
            *message*) printf '{"error":{"message":"odd \xff","stacktrace":["\\ud800"]}}\n' >&3 ;;
            *) printf '{ "payload" : [ "\xc3\xbc\xf0\x9f\x98\x80", -0.5e+3, 10, true, {} ] } \n' >&3 ;;
        esac"#,
        ))
        .await;
    for which in [
        "control",
        "encoding",
        "surrogate",
        "zero",
        "number",
        "escape",
    ] {
        let done = node.call(&id, json!(which)).await;
        let said = &error(&done, ErrorType::FunctionError).message;
        assert!(said.starts_with("the result "), "{which}: {said}");
    }
    let done = node.call(&id, json!("message")).await;
    let odd = error(&done, ErrorType::FunctionError);
    assert_eq!(odd.message, "odd \u{fffd}");
    assert_eq!(
        node.output(&id, Value::Null).await,
        json!(["\u{fc}\u{1f600}", -500.0, 10, true, {}])
    );
    assert_eq!(node.functions.stats().workers, 1, "it is still the first");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executable_that_ends_is_not_waited_for_longer() {
    let node = node();
    let mut ending = script(
        r#"read -r request <&3
        case $request in
            *child*) sleep 1000 & exit 3 ;;
            *half*) printf '{"payl' >&3; kill -9 $$ ;;
            *more*) echo '{"payload":1}' >&3; head -c 3000000 /dev/zero >&3 ;;
            *much*) echo '{"payload":1}' >&3; cat /dev/zero >&3 ;;
            *) echo '{"payload":"fine"}' >&3 ;;
        esac"#,
    );
    ending.timeout_ms = 10_000;
    let id = node.load(ending).await;
    for (which, message) in [
        ("child", "its process exited with status 3 without a reply"),
        (
            "half",
            "its process was ended by signal 9 in the middle of its reply",
        ),
        ("more", "it wrote more than one line as its reply"),
        ("much", "the result is larger than 6 MiB"),
    ] {
        let done = node.call(&id, json!(which)).await;
        let said = &error(&done, ErrorType::FunctionError).message;
        assert_eq!(said, message, "{which}");
        assert_eq!(node.output(&id, Value::Null).await, json!("fine"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_space_of_an_executable_stands_in_for_its_memory() {
    let node = node();
    let bounded = node.functions.capabilities().cgroup.bounds_memory();
    let id = node
        .load(script(
            "echo \"{\\\"payload\\\":\\\"$(ulimit -v)\\\"}\" >&3",
        ))
        .await;
    let kilobytes = node.output(&id, Value::Null).await;
    let memory = node.functions.limits().memory_bytes.expect("there is one");
    let bound = ((memory >> 10) + (1024 << 10)).to_string();
    // Where the memory itself is bounded, that is all there is to it.
    let expected = if bounded { "unlimited" } else { bound.as_str() };
    assert_eq!(kilobytes, json!(expected));
}

/// Waits before it selects, so that whatever was about to happen has happened.
const LATE_SELECT: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/select.h>
#include <unistd.h>
int select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *t) {
    int (*real)(int, fd_set *, fd_set *, fd_set *, struct timeval *) = dlsym(RTLD_NEXT, "select");
    usleep(200000);
    return real(n, r, w, e, t);
}
"#;

#[test]
fn a_program_that_ends_just_before_it_is_waited_for_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("late.c"), LATE_SELECT).expect("writes");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([at("late.so"), at("late.c")])
        .status();
    assert!(built.expect("there is a C compiler").success());
    let worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("packs/binary/worker.pl");
    let own = at("function");
    let worker = std::fs::read_to_string(worker)
        .expect("it is there")
        .replace("'/tmp/function'", &format!("'{}'", own.display()));
    std::fs::write(at("worker.pl"), worker).expect("writes");

    let (ours, theirs) = UnixStream::pair().expect("a socket");
    let mut process = Command::new("sh")
        .args(["-c", r#"LD_PRELOAD="$1" exec perl "$0" 3<&0"#])
        .args([at("worker.pl"), at("late.so")])
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .expect("there is Perl");
    ours.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("sets");
    let mut lines = BufReader::new(ours.try_clone().expect("clones")).lines();
    let mut line = || -> Value {
        let line = lines.next().expect("it is alive").expect("it answers");
        serde_json::from_str(&line).expect("it is JSON")
    };
    let say = |order: Value| (&ours).write_all(format!("{order}\n").as_bytes());
    assert_eq!(line()["ready"], 1);
    // Its reply is there before the first wait, and its end comes just before the second.
    let program = "#!/bin/sh\necho '{\"payload\":1}' >&3\nexec 3>&-\nsleep 0.3\n";
    say(json!({"init": {"files": [["main.sh", program, false]], "handler": "./main.sh"}}))
        .expect("writes");
    assert_eq!(line(), json!({"ready": 1}));
    for call in 1..3 {
        say(json!({"call": call, "context": {}, "payload": null})).expect("writes");
        assert_eq!(line(), json!({"ok": call, "payload": 1}));
    }
    ours.shutdown(Shutdown::Both).expect("closes");
    process.wait().expect("it ends");
}
