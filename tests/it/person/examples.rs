//! The functions that the original published, in its old documents and in ours.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::thread;

use harness::process::{Dispatch, repository};
use serde_json::json;

/// The address of a web server that knows one page, and lives as long as the test.
fn web() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().and_then(Result::ok).unwrap_or_default();
            for line in lines.map_while(Result::ok) {
                if line.is_empty() {
                    break;
                }
            }
            let status = match first.split(' ').nth(1) {
                Some("/page") => "200 OK",
                _ => "404 Not Found",
            };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

#[test]
fn the_example_that_asks_a_web_server_answers_with_its_status() {
    let dispatch = Dispatch::up();
    let seed = repository().join("docs/examples/seed.yaml");
    let seed = seed.display().to_string();
    let _ = dispatch.cli(&["create", "-f", &seed]).ok();
    dispatch.until("function", "http-py", |it| it["status"] == "READY");
    let web = web();
    let ask = |path: &str| {
        let input = json!({"url": format!("{web}/{path}")}).to_string();
        let ran = dispatch.cli(&["exec", "http-py", "--wait", "--input", &input, "--json"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.json()["output"].clone()
    };
    assert_eq!(ask("page"), json!({"status": 200}));
    assert_eq!(ask("nothing"), json!({"status": 404}));

    // The same source is let out only where its function says so.
    let document = "kind: Function\nname: shut-in\nimage: python3\ncode: '@http.py'\n";
    let source = repository().join("docs/examples/python3/http.py");
    dispatch.file("http.py", &std::fs::read_to_string(source).unwrap());
    let file = dispatch.file("shut-in.yaml", document);
    let _ = dispatch.cli(&["create", "-f", &file]).ok();
    dispatch.until("function", "shut-in", |it| it["status"] == "READY");
    let input = json!({"url": format!("{web}/page")}).to_string();
    let ran = dispatch.cli(&["exec", "shut-in", "--wait", "--input", &input]);
    assert_eq!(ran.code, 3, "{ran:?}");
}

/// The first documents had `code` and `main`, which was `main` unless somebody said otherwise.
#[test]
fn a_function_of_the_first_documents_is_called_by_its_entry() {
    let dispatch = Dispatch::up();
    for (image, language) in [("python3", "python3"), ("nodejs", "nodejs")] {
        dispatch.image(image, language);
    }
    let copy = |from: &str| {
        let text = std::fs::read_to_string(repository().join("docs/examples").join(from));
        let name = from.rsplit('/').next().expect("a path has a name");
        dispatch.file(name, &text.expect("the example is there"));
    };
    copy("python3/hello.py");
    copy("nodejs/hello.js");
    let other = "def greet(context, payload):\n    return 'greeted'\n";
    dispatch.file("greets.py", other);
    let documents = "\
kind: Function\nname: hello-py\nimage: python3\ncode: '@hello.py'\nmain: main\n---\n\
kind: Function\nname: hello-js\nimage: nodejs\ncode: '@hello.js'\nmain: main\n---\n\
kind: Function\nname: greets\nimage: python3\ncode: '@greets.py'\nmain: greet\n";
    let file = dispatch.file("seed.yaml", documents);
    let said = dispatch.cli(&["create", "-f", &file]).ok();
    assert_eq!(said.lines().count(), 3, "{said}");
    let input = r#"{"name": "Jon", "place": "Winterfell"}"#;
    let hello = json!({"myField": "Hello, Jon from Winterfell"});
    for (name, expected) in [
        ("hello-py", hello.clone()),
        ("hello-js", hello),
        ("greets", json!("greeted")),
    ] {
        dispatch.until("function", name, |it| it["status"] == "READY");
        let ran = dispatch.cli(&["exec", name, "--wait", "--input", input, "--json"]);
        assert_eq!(ran.json()["output"], expected, "{name}: {ran:?}");
    }
}
