//! The rules of the house: who may know what, what a source may say, and that the pages are true.
//!
//! Each rule is a function from files to findings, with a test that a breach is found and one that
//! this tree has none.

mod crates;
mod lock;
mod pages;
mod rules;
mod sources;
mod tree;

/// Fails with one finding a line.
fn none(findings: Vec<String>) {
    assert!(
        findings.is_empty(),
        "{} found:\n{}",
        findings.len(),
        findings.join("\n")
    );
}
