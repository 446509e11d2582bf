//! The launcher of sandboxed processes: namespaces, mounts, seccomp, limits.
