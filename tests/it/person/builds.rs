//! `dispatch logs image`: what a build printed, and what it prints.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use harness::process::Dispatch;

#[test]
fn what_a_build_printed_is_shown_whatever_came_of_it_and_followed() {
    let dispatch = Dispatch::up();
    dispatch.image("python3", "python3");
    let manifest = |text: &str| dispatch.file("requirements.txt", text);
    let create = |name: &str, text: &str| {
        let file = manifest(text);
        let words = ["create", "image", name, "python3-base"];
        let words = [&words[..], &["--runtime-deps", &file, "--wait"]].concat();
        dispatch.cli(&words)
    };
    let _ = create("six", "six==1.17.0\n").ok();
    let said = dispatch.cli(&["logs", "image", "six"]).ok();
    assert!(said.contains("six"), "{said}");
    let data = dispatch.cli(&["logs", "image", "six", "--json"]).json();
    let lines = data["lines"].as_array().expect("a list of lines");
    assert_eq!(lines.len(), said.lines().count());

    // What was read can be written again.
    let read = dispatch.get("image", "six").to_string();
    let file = dispatch.file("six.yaml", &read);
    let _ = dispatch.cli(&["update", "-f", &file]).ok();

    let broken = create("broken", "no-such-package-at-all==1\n");
    assert_eq!(broken.code, 4, "{broken:?}");
    let said = dispatch.cli(&["logs", "image", "broken"]).ok();
    assert!(said.contains("no-such-package-at-all"), "{said}");

    let follower = dispatch
        .command()
        .args(["logs", "image", "broken", "--follow"])
        .stdout(Stdio::piped())
        .spawn();
    let mut follower = follower.expect("the binary runs");
    let out = follower.stdout.take().expect("it is a pipe");
    let mut lines = BufReader::new(out).lines().map_while(Result::ok);
    let mut hears = |what: &str| lines.any(|line| line.contains(what));
    assert!(hears("no-such-package-at-all"), "what was kept comes first");
    let document = format!(
        "kind: Image\nname: broken\nbaseImageName: python3-base\n\
         runtimeDependencies: {{manifest: '@{}'}}\n",
        manifest("nor-this-one==2\n")
    );
    let file = dispatch.file("image.yaml", &document);
    let _ = dispatch.cli(&["update", "-f", &file]).ok();
    let heard = hears("nor-this-one");
    let _ = follower.kill();
    let _ = follower.wait();
    assert!(heard, "the new build is followed");

    let absent = dispatch.cli(&["logs", "image", "absent"]);
    assert_eq!(absent.code, 1, "{absent:?}");
    assert!(absent.err.contains("[not-found]"), "{absent:?}");
}
