//! How a function is run, from the command line and from a file.

use harness::process::Dispatch;
use serde_json::json;

const HELLO: &str = "docs/examples/python3/hello.py";

#[test]
fn what_an_update_does_not_name_stays_within_each_part_of_the_document() {
    let dispatch = Dispatch::up();
    let words = "create function hello PATH --image python3 --min 1 --max 4 --cpu 0.5 \
                 --open-files 128 --isolate=call --attempts 3 --retry-on SystemError --at-most-once";
    let _ = dispatch.cli(&words_of(words)).ok();
    let hello = dispatch.get("function", "hello");
    assert_eq!(hello["workers"]["min"], 1, "{hello}");
    assert_eq!(hello["limits"]["cpu"], 50, "{hello}");
    assert_eq!(hello["isolation"], "call", "{hello}");
    assert_eq!(hello["runs"]["retryOn"], json!(["SystemError"]), "{hello}");

    let words = "update function hello PATH --max 8 --at-most-once=false --backoff 250";
    let _ = dispatch.cli(&words_of(words)).ok();
    let changed = dispatch.get("function", "hello");
    let mut expected = hello.clone();
    expected["workers"]["max"] = json!(8);
    expected["runs"]["atMostOnce"] = json!(false);
    expected["runs"]["backoff"] = json!(250);
    for part in ["workers", "limits", "isolation", "runs"] {
        assert_eq!(changed[part], expected[part], "{part} of {changed}");
    }
}

#[test]
fn more_workers_to_be_kept_than_there_may_be_are_refused_however_it_is_said() {
    let dispatch = Dispatch::up();
    let words = "create function hello PATH --image python3 --min 3 --max 2";
    let url = format!("127.0.0.1:{}", dispatch.config()["port"]);
    let (host, port) = url.split_once(':').expect("it has both");
    let rest = ["--host", host, "--port", port, "--insecure"];
    let update = "update function hello PATH --min 3";
    let refused = |words: &[&str]| {
        let refused = dispatch.cli(words);
        assert_eq!(refused.code, 1, "{words:?}: {refused:?}");
        let says = "workers.min: 3 are to be kept, but 2 at most (workers.max)";
        assert!(refused.err.contains(says), "{words:?}: {refused:?}");
        assert!(refused.err.contains("[invalid-field]"), "{refused:?}");
    };
    refused(&words_of(words));
    refused(&[&words_of(words)[..], &rest].concat());
    let good = "create function hello PATH --image python3 --max 2";
    let _ = dispatch.cli(&words_of(good)).ok();
    refused(&words_of(update));
}

#[test]
fn a_file_says_the_same_as_the_flags() {
    let dispatch = Dispatch::up();
    let text = "kind: Function\nname: hello\nimage: python3\nfileName: hello.py\ncode: |\n  def handle(c, p):\n    return 1\n\
                limits: {cpu: 50, tmp: 16}\nworkers: {min: 1}\nisolation: error\n\
                runs: {attempts: 3, retryOn: [FunctionError]}\n";
    let file = dispatch.file("seed.yaml", text);
    let _ = dispatch.cli(&["create", "-f", &file]).ok();
    let hello = dispatch.get("function", "hello");
    assert_eq!(hello["limits"]["tmp"], 16, "{hello}");
    assert_eq!(hello["workers"]["min"], 1, "{hello}");
    assert_eq!(hello["isolation"], "error", "{hello}");
    assert_eq!(hello["runs"]["attempts"], 3, "{hello}");
}

fn words_of(words: &str) -> Vec<&str> {
    words
        .split_whitespace()
        .map(|word| if word == "PATH" { HELLO } else { word })
        .collect()
}
