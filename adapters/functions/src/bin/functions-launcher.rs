//! The sandbox launcher's helper process as a program of its own, for this crate's tests.

fn main() {
    adapter_sandbox::launcher_main();
}
