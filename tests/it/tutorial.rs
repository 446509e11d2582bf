//! The tutorial is true: its commands answer as the page says.

use std::sync::atomic::AtomicBool;

use harness::story::{Story, binaries, root};

#[test]
fn the_tutorial_works() {
    let directory = tempfile::tempdir().unwrap();
    let story = Story {
        root: root(),
        work: directory.path().join("demo"),
        binaries: binaries().unwrap(),
        keep: false,
    };
    story.run(&AtomicBool::new(false)).unwrap();
}
