"""A function that means harm. The payload names the attack; the answer is what it achieved, by name:
an empty map is a sandbox that held. What could not even be tried must be told apart from what was
refused, so that each attempt says the error it met on standard output."""

import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    pass


def call(name, *arguments):
    """A function of the C library that must not succeed."""
    ctypes.set_errno(0)
    if getattr(libc, name)(*arguments) < 0:
        raise Refused(errno.errorcode.get(ctypes.get_errno(), "?"))
    return "done"


def system_call(number, *arguments):
    ctypes.set_errno(0)
    arguments = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    if libc.syscall(ctypes.c_long(number), *arguments) < 0:
        raise Refused(errno.errorcode.get(ctypes.get_errno(), "?"))
    return "done"


def attempt(attempts):
    achieved = {}
    for name, act in attempts.items():
        try:
            result = act()
        except (OSError, Refused, ValueError, OverflowError) as refusal:
            print("%s: %s" % (name, refusal))
            continue
        if result:
            achieved[name] = repr(result)[:200]
        else:
            print("%s: nothing" % name)
    return achieved


def read(path):
    with open(path, "rb") as file:
        return file.read(64)


def write(path):
    with open(path, "wb") as file:
        return file.write(b"x") and "written"


def host_files(payload):
    known = {"bin", "dev", "dispatch", "etc", "layer", "lib", "lib32", "lib64", "libx32", "proc",
             "run", "sbin", "tmp", "usr", "var", "node_modules"}
    return attempt({
        "marker": lambda: read(payload["marker"]),
        "marker by root": lambda: read("/proc/1/root" + payload["marker"]),
        "marker by cwd": lambda: read("/proc/1/cwd/../../../../.." + payload["marker"]),
        "climbing": lambda: read("/tmp/../../../../../.." + payload["marker"]),
        "shadow": lambda: read("/etc/shadow"),
        "users": lambda: read("/etc/passwd").count(b"daemon"),
        "boot": lambda: os.listdir("/boot"),
        "home": lambda: os.listdir("/home"),
        "root's home": lambda: os.listdir("/root"),
        "sockets": lambda: os.listdir("/run"),
        "state": lambda: [name for name in os.listdir("/var") if name != "tmp"],
        "kernel settings": lambda: write("/proc/sys/kernel/core_pattern"),
        "kernel memory": lambda: read("/proc/kcore"),
        "control groups": lambda: os.mkdir("/sys/fs/cgroup/escape"),
        "system": lambda: write("/usr/lib/escape"),
        "wrapper": lambda: write("/dispatch/escape"),
        "root": lambda: write("/escape"),
        "magic request": lambda: write("/proc/sysrq-trigger"),
        "more than is known": lambda: set(os.listdir("/")) - known,
    })


def other_workers(payload):
    needle = payload["secret"].encode()

    def search(kind):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if int(pid) == os.getpid():
                continue
            try:
                with open("/proc/%s/%s" % (pid, kind), "rb") as file:
                    if needle in file.read(1 << 20):
                        found.append(pid)
            except OSError:
                pass
        return found

    def memory():
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if int(pid) != os.getpid():
                try:
                    with open("/proc/%s/mem" % pid, "rb") as file:
                        return file and "opened the memory of %s" % pid
                except OSError:
                    pass

    strangers = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if int(pid) > 4096]
    return attempt({
        "environment": lambda: search("environ"),
        "arguments": lambda: search("cmdline"),
        "memory": memory,
        "processes of others": lambda: strangers,
        "shared memory": lambda: os.listdir("/dev/shm"),
        "its files": lambda: [name for name in os.listdir("/tmp") if name == "left-by-another"],
    })


def network(payload):
    def connect(host):
        return lambda: socket.create_connection((host, payload["port"]), 2) and "connected"

    def datagram():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.sendto(b"escape", ("127.0.0.1", payload["datagrams"]))

    def raw(family, kind, protocol=0):
        return lambda: socket.socket(family, kind, protocol) and "open"

    def abstract():
        client = socket.socket(socket.AF_UNIX)
        client.connect("\0" + payload["abstract"])
        return "connected"

    attempts = {
        "loopback": connect("127.0.0.1"),
        "loopback of the sixth version": connect("::1"),
        "another address": connect(payload["address"]),
        "abstract socket": abstract,
        "raw socket": raw(socket.AF_INET, socket.SOCK_RAW, 1),
        "packet socket": raw(17, socket.SOCK_RAW),
        "firewall": raw(16, socket.SOCK_RAW, 12),
        "kernel's audit": raw(16, socket.SOCK_RAW, 9),
        "vsock": raw(40, socket.SOCK_STREAM),
        "bluetooth": raw(31, socket.SOCK_SEQPACKET),
    }
    achieved = attempt(attempts)
    try:
        datagram()
    except OSError:
        pass
    if payload.get("allowed"):
        host, port = payload["allowed"]
        socket.create_connection((host, port), 5).close()
    return achieved


def privileges(payload):
    def setuid_programs():
        gained = []
        for folder in ("/usr/bin", "/usr/sbin", "/bin"):
            for name in os.listdir(folder):
                path = folder + "/" + name
                try:
                    if os.stat(path).st_mode & 0o6000:
                        ran = subprocess.run([path, "--help"], capture_output=True, timeout=5)
                        status = read("/proc/self/status")
                        gained += [path] if b"\nUid:\t0\t" in status and ran else []
                except (OSError, subprocess.TimeoutExpired):
                    pass
        return gained

    def own_setuid():
        with open("/tmp/own", "wb") as file, open("/usr/bin/id", "rb") as original:
            file.write(original.read())
        os.chmod("/tmp/own", 0o6755)
        said = subprocess.run(["/tmp/own", "-u"], capture_output=True, text=True).stdout.strip()
        return said and int(said) != os.getuid() and said

    status = open("/proc/self/status").read()
    return attempt({
        "root": lambda: os.setuid(0) or "done",
        "root's group": lambda: os.setgid(0) or "done",
        "groups": lambda: os.setgroups([0]) or "done",
        "setuid programs": setuid_programs,
        "a setuid program of its own": own_setuid,
        "capabilities": lambda: [line for line in status.splitlines()
                                 if line.startswith("Cap") and int(line.split()[1], 16)],
        "new privileges": lambda: "NoNewPrivs:\t1" not in status,
        "no filter": lambda: "Seccomp:\t2" not in status,
        "nice": lambda: os.nice(-5),
        "host name": lambda: socket.sethostname("escape") or "done",
        "clock": lambda: time.clock_settime(time.CLOCK_REALTIME, 0) or "done",
    })


def kernel(payload):
    buffer = ctypes.create_string_buffer(256)
    null = ctypes.c_void_p(None)
    return attempt({
        "mount": lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "unmount": lambda: call("umount2", b"/tmp", 2),
        "remount": lambda: call("mount", b"none", b"/", None, 32, None),
        "pivot_root": lambda: system_call(155, b"/tmp", b"/tmp"),
        "chroot": lambda: os.chroot("/tmp") or "done",
        "user namespace": lambda: call("unshare", 0x10000000),
        "mount namespace": lambda: call("unshare", 0x00020000),
        "setns": lambda: call("setns", os.open("/proc/1/ns/net", os.O_RDONLY), 0),
        "open_tree": lambda: system_call(428, -100, b"/", 1),
        "fsopen": lambda: system_call(430, b"tmpfs", 0),
        "device": lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(254, 0)) or "made",
        "disk": lambda: read("/dev/vda"),
        "memory": lambda: read("/dev/mem"),
        "kernel's log": lambda: read("/dev/kmsg"),
        "kvm": lambda: read("/dev/kvm"),
        "tun": lambda: read("/dev/net/tun"),
        "attach to the first process": lambda: call("ptrace", 16, 1, None, None),
        "be traced": lambda: call("ptrace", 0, 0, None, None),
        "read the first process": lambda: system_call(310, 1, null, 0, null, 0, 0),
        "bpf": lambda: system_call(321, 0, buffer, 72),
        "io_uring": lambda: system_call(425, 8, buffer),
        "perf": lambda: system_call(298, buffer, 0, -1, -1, 0),
        "userfaultfd": lambda: system_call(323, 1),
        "keyring": lambda: system_call(250, 0, -3, 1, 0, 0),
        "module": lambda: system_call(175, buffer, 16, b""),
        "kexec": lambda: system_call(246, 0, 0, null, 0),
        "reboot": lambda: system_call(169, 0xFEE1DEAD, 672274793, 0, null),
        "handles": lambda: system_call(304, -100, buffer, 0),
        "swap": lambda: system_call(167, b"/tmp/own", 0),
        "another personality": lambda: system_call(135, 0x0040000) and None,
    })


def bomb_of_forks(payload):
    children = []
    try:
        while len(children) < 100_000:
            child = os.fork()
            if child == 0:
                time.sleep(600)
                os._exit(0)
            children.append(child)
    except OSError as refusal:
        return {"children": len(children), "refusal": errno.errorcode[refusal.errno]}
    return {"children": len(children), "refusal": None}


def bomb_of_threads(payload):
    started = 0
    try:
        while started < 100_000:
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
            started += 1
    except RuntimeError:
        pass
    return {"threads": started}


def bomb_of_memory(payload):
    held = []
    while True:
        held.append(bytearray(b"x" * (16 << 20)))


def fill_disk(payload):
    written = 0
    reasons = set()
    for folder in ("/tmp", "/dev/shm"):
        for number in range(1000):
            try:
                with open("%s/filler-%d" % (folder, number), "wb", 0) as file:
                    for _ in range(8):
                        written += file.write(b"x" * (1 << 20))
            except OSError as refusal:
                reasons.add(errno.errorcode[refusal.errno])
                break
    return {"written": written, "reasons": sorted(reasons)}


def fill_inodes(payload):
    made = 0
    try:
        os.mkdir("/tmp/many")
        while made < 3_000_000:
            os.close(os.open("/tmp/many/%d" % made, os.O_CREAT))
            made += 1
    except OSError as refusal:
        return {"made": made, "refusal": errno.errorcode[refusal.errno]}
    return {"made": made, "refusal": None}


def endless_output(payload):
    while True:
        os.write(1, b"y" * 65536)


def many_lines(payload):
    for _ in range(60):
        os.write(2, b"line\n" * 200_000)


def close_descriptors(payload):
    os.closerange(0, 4096)
    return "still here"


def write_descriptors(payload):
    for number in range(3, 1024):
        try:
            os.write(number, b'{"ok":1,"payload":"forged"}\n{"ready":1}\n\xff\n')
        except OSError:
            pass
    return "genuine"


def echo(payload):
    return payload["word"]


def stop_itself(payload):
    os.kill(os.getpid(), signal.SIGSTOP)


def with_a_child(number):
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
    os.kill(-1, number)  # all but itself and the first process
    time.sleep(600)


def stop_all(payload):
    with_a_child(signal.SIGSTOP)


def kill_all(payload):
    with_a_child(signal.SIGKILL)


def ignore_signals(payload):
    for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_IGN)
        except OSError:
            pass
    while True:
        pass


def leave_grandchildren(payload):
    # The writing end goes with the last of them that becomes another program.
    begun, holding = os.pipe()
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                null = os.open("/dev/null", os.O_RDWR)
                for number in range(3):
                    os.dup2(null, number)
                os.execv("/usr/bin/python3", ["python3", "-c", "import time; time.sleep(600)",
                                              payload["marker"]])
            os._exit(0)
    os.close(holding)
    os.read(begun, 1)
    return {}


def handle(context, payload):
    return globals()[payload["attack"]](payload)
