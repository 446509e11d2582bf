//! What a handler gets, what becomes of what it returns or raises, and what it prints.

use adapter_functions::{ErrorType, Language, Source};
use serde_json::{Value, json};

use crate::support::{call, error, example, example_json, node, nodejs, python, revision};

#[tokio::test(flavor = "multi_thread")]
async fn hello_answers_the_same_in_both_languages() {
    let node = node();
    for (language, name, file) in [
        (Language::Python3, "hello.py", "python3/hello.py"),
        (Language::Nodejs, "hello.js", "nodejs/hello.js"),
    ] {
        let mut hello = revision(language, name, &example(file));
        hello.schema_in = Some(example_json("hello.in.json"));
        hello.schema_out = Some(example_json("hello.out.json"));
        let id = node.load(hello).await;
        let jon = json!({"name": "Jon", "place": "Winterfell"});
        assert_eq!(node.output(&id, jon).await, json!({"myField": "Hello, Jon from Winterfell"}));
        assert_eq!(node.output(&id, json!({})).await, json!({"myField": "Hello, Noone from Nowhere"}));
        let done = node.call(&id, json!({"name": 7})).await;
        let said = &error(&done, ErrorType::InputError).message;
        assert!(said.starts_with("Input invalid against schema: name: 7 is not of type"), "{said}");
    }
}
