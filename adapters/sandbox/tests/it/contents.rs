//! What a sandbox sees of files, processes and descriptors.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

use adapter_sandbox::{Error, Launcher, LauncherConfig, Mount, Spec};

use crate::support::{finish, launcher, launcher_program, printed, python, run, shell};

#[test]
fn the_hosts_files_and_processes_are_not_there() {
    let script = "
import os
for path in ['/etc/shadow', '/root', '/home', '/sys', '/.host', '/etc/machine-id']:
    assert not os.path.exists(path), path
numbers = sorted(int(n) for n in os.listdir('/proc') if n.isdigit())
assert numbers == [os.getpid()], numbers
print(sorted(os.listdir('/')))
";
    let root = printed(&python(script));
    for expected in ["bin", "dev", "etc", "lib", "proc", "tmp", "usr"] {
        assert!(root.contains(&format!("'{expected}'")), "{root}");
    }
}

#[test]
fn nothing_outside_of_tmp_and_shm_can_be_written() {
    let script = "
import os
for path in ['/x', '/etc/x', '/usr/x', '/usr/bin/x', '/dev/x', '/var/x', '/run/x', '/proc/sys/kernel/core_pattern']:
    try: open(path, 'w').close()
    except OSError as e: assert e.errno in (13, 30, 2, 1), (path, e)
    else: raise SystemExit(path)
for path in ['/tmp/x', '/var/tmp/y', '/dev/shm/x', '/dev/null']:
    open(path, 'w').write('x')
";
    printed(&python(script));
}

#[test]
fn tmp_has_its_size_and_no_more() {
    let mut spec =
        shell("head -c 3000000 /dev/zero > /tmp/a && head -c 3000000 /dev/zero > /tmp/b");
    spec.limits.tmp_bytes = 4 << 20;
    let output = run(&spec);
    assert!(!output.exit.success());
    assert!(output.stderr.contains("No space left"), "{output:?}");
}

#[test]
fn the_program_is_an_ordinary_user_with_a_name() {
    let text = printed(&shell("id -un; id -u; hostname; getent passwd 1000"));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "sandbox",
            "1000",
            "sandbox",
            "sandbox:x:1000:1000:sandbox:/tmp:/bin/sh"
        ]
    );
}

#[test]
fn a_mount_is_read_only_or_writable_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (source, results) = (dir.path().join("source"), dir.path().join("results"));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&results).unwrap();
    fs::write(source.join("private"), "hello").unwrap();
    // What only the engine can read on the host is readable inside, because it was mounted.
    fs::set_permissions(source.join("private"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut spec = shell("cat /fn/deep/private; touch /fn/deep/x || cp /fn/deep/private /out/copy");
    spec.mounts.push(Mount::read_only(&source, "/fn/deep"));
    spec.mounts.push(Mount::read_write(&results, "/out"));
    spec.mounts
        .push(Mount::read_only(source.join("private"), "/one/file"));
    assert_eq!(printed(&spec), "hello");
    assert!(!source.join("x").exists());
    let copy = results.join("copy");
    assert_eq!(fs::read_to_string(&copy).unwrap(), "hello");
    use std::os::unix::fs::MetadataExt;
    let owner = |path: &std::path::Path| fs::metadata(path).unwrap().uid();
    assert_eq!(
        owner(&copy),
        owner(&results),
        "what is written belongs to the engine's user"
    );
}

#[test]
fn a_link_in_a_mount_does_not_lead_a_later_mount_to_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, source.join("deps")).unwrap();
    let mut spec = shell("true");
    spec.mounts.push(Mount::read_only(&source, "/fn"));
    spec.mounts.push(Mount::read_only("/usr", "/fn/deps/inner"));
    // Whether or not it works inside, the host is as it was.
    let _ = launcher().spawn(&spec).map(finish);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn descriptor_3_is_the_engines_channel() {
    let script = "
import socket
channel = socket.socket(fileno=3)
data = channel.recv(100)
channel.sendall(data[::-1])
";
    let mut sandboxed = launcher().spawn(&python(script)).unwrap();
    sandboxed.channel.write_all(b"hello").unwrap();
    let mut answer = String::new();
    sandboxed.channel.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "olleh");
    assert!(finish(sandboxed).exit.success());
}

#[test]
fn descriptor_4_is_a_queue_that_outlives_its_program() {
    let script = "
import os
print(sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1], flush=True)
while True:
    try:
        print(os.read(4, 65536), flush=True)
        break
    except BlockingIOError:
        pass
os.read(3, 1)
os.abort()
";
    let mut spec = python(script);
    spec.queue = true;
    let mut sandboxed = launcher().spawn(&spec).unwrap();
    let queue = sandboxed.queue.take().expect("it was asked for");
    assert!(queue.put(b"one").unwrap());
    let mut first = [0; 64];
    // The first line, then what it took.
    let mut printed = String::new();
    let mut stdout = std::fs::File::from(sandboxed.stdout.try_clone().unwrap());
    while !printed.contains("one") {
        let count = stdout.read(&mut first).unwrap();
        printed += std::str::from_utf8(&first[..count]).unwrap();
    }
    assert_eq!(printed, "[0, 1, 2, 3, 4]\nb'one'\n");
    assert!(queue.put(b"two").unwrap() && queue.put(b"three").unwrap());
    sandboxed.channel.write_all(b"x").unwrap();
    assert_eq!(finish(sandboxed).exit.signal, Some(6));
    assert_eq!(queue.take_back::<9>(), [&b"two"[..], b"three"]);
}

#[test]
fn no_descriptor_of_the_host_is_inherited() {
    // The helper itself is started with one that is not closed on exec, as a careless engine would.
    let program = launcher_program().to_str().unwrap().to_owned();
    let careless = ["/bin/sh", "-c", "exec 9</etc/passwd; exec \"$0\"", &program];
    let launcher = Launcher::start(LauncherConfig::new(careless)).unwrap();
    let others = [(); 3].map(|()| launcher.spawn(&shell("sleep 100")).unwrap());
    let script = "
import os
# The last one is the listing's own, closed by now.
print(sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1], os.readlink('/proc/self/fd/0'))
";
    let output = finish(launcher.spawn(&python(script)).unwrap());
    assert_eq!(output.stdout, "[0, 1, 2, 3] /dev/null\n", "{output:?}");
    drop(others);
}

#[test]
fn the_environment_is_the_one_given() {
    let mut spec = Spec::new("/usr/bin/env");
    spec.env = vec![("A".into(), "1".into()), ("B".into(), "two words".into())];
    assert_eq!(printed(&spec), "A=1\nB=two words\n");
}

#[test]
fn a_program_that_is_not_there_is_an_error_that_names_it() {
    let error = launcher()
        .spawn(&Spec::new("/usr/bin/no-such-program"))
        .unwrap_err();
    assert!(matches!(&error, Error::Setup { source, .. }
        if source.kind() == std::io::ErrorKind::NotFound));
    assert!(error.to_string().contains("no-such-program"), "{error}");
}

#[test]
fn a_mount_or_directory_that_is_not_there_is_an_error_that_names_it() {
    let mut spec = Spec::new("/usr/bin/true");
    spec.mounts.push(Mount::read_only("/no/such/source", "/fn"));
    let error = launcher().spawn(&spec).unwrap_err();
    assert!(error.to_string().contains("/no/such/source"), "{error}");
    let mut spec = Spec::new("/usr/bin/true");
    spec.cwd = "/no/such/directory".into();
    let error = launcher().spawn(&spec).unwrap_err();
    assert!(error.to_string().contains("/no/such/directory"), "{error}");
}

#[test]
fn a_spec_too_long_for_a_message_is_refused_and_the_longest_works() {
    let mut spec = Spec::new("/usr/bin/true");
    spec.env.push(("BIG".into(), "x".repeat(127 << 10)));
    assert!(run(&spec).exit.success());
    spec.env.push(("MORE".into(), "x".repeat(2 << 10)));
    assert!(matches!(
        launcher().spawn(&spec),
        Err(Error::SpecTooLarge { .. })
    ));
}
