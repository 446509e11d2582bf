//! The helper process by itself, for this crate's tests; `dispatch` carries the same entry in a
//! hidden subcommand.

fn main() {
    adapter_sandbox::launcher_main()
}
