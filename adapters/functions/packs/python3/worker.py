"""The Python worker: one function, one call at a time, over one private socket.

It speaks lines of JSON on descriptor 3 (docs: adapters/functions/src/workers/frame.rs):

    worker  {"ready": 1, "version": "3.11.2", "queue": 1}   once, when it may be given a function
    engine  {"init": {"files": [...], "dir": "...", "handler": "hello.handle", "layer": "...",
             "code": "..."}}
    worker  {"ready": 1, "code": "..."} | {"fail": "one reason"}
    engine  {"call": 7, "bindings": [...], "context": {...}, "payload": ...}
    worker  {"ok": 7, "payload": ...} | {"err": 7, "type": "...", "message": "...", "stacktrace": []}

`code` is the handler's module compiled, in hexadecimal: the first worker of a function says it,
and the next ones are spared the work.

With "queue", calls may also come as packets on descriptor 4, more than one at a time.

What the function prints goes to descriptors 1 and 2, which are only ever logs. Start-up time is
mostly imports, so this file uses built-in modules and the C half of json; the rest is imported
where it is needed, which is when something went wrong.
"""

import sys
import marshal
import posix
import _io
import _json

CHANNEL = 3
# Calls ahead of time, one a packet, none longer than this.
QUEUE = 4
PACKET_BYTES_MAX = 65536
# Out of the way of code that closes or reuses small descriptors; never inherited by a child.
HIGH = 200
# Where functions are written: the engine says the same in every order.
FUNCTION = "/tmp/function"
# Where the credentials of its services are files: what $SERVICE_BINDING_ROOT says.
BINDINGS = "/tmp/bindings"


def move(descriptor, high):
    try:
        posix.dup2(descriptor, high, False)
    except OSError:  # the limit on open files is lower than that
        return descriptor
    posix.close(descriptor)
    return high


channel = move(CHANNEL, HIGH)
queue = move(QUEUE, HIGH + 1)
# Whether this is a child that the function forked.
stray = False
reader = _io.open(channel, "rb", 65536, closefd=False)


class Decoding:
    """What the C scanner asks of a json.JSONDecoder."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo = {}


def unserialisable(value):
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


def make_encoder():
    return _json.make_encoder(
        {}, unserialisable, _json.encode_basestring_ascii, None, ": ", ", ", False, False, False
    )


def make_take():
    """What takes the next order: a line of the channel or a packet of the queue; nothing at the end.

    A reader that sleeps in the socket itself is also woken when the engine takes its last answer out
    of it, for nothing; and it could not wait for the queue as well."""
    if "select" not in sys.builtin_module_names:  # loading it would cost more than it spares
        return reader.readline, False
    import select

    poller = select.poll()
    poller.register(channel, select.POLLIN)
    poller.register(queue, select.POLLIN)
    read, poll = posix.read, poller.poll

    def take():
        while True:
            try:
                return read(queue, PACKET_BYTES_MAX)
            except BlockingIOError:
                pass
            for ready, _ in poll():
                if ready == channel:
                    return reader.readline()

    return take, bool(poll(0))


# What takes the next order, and whether somebody waits for this worker to become a function.
take, awaited = make_take()
scan = _json.make_scanner(Decoding)
encode = make_encoder()
handler = None
compiled = None
# For a process of its own for each call: what was there before the first one.
zygote = None
apart = False


def is_stray():
    global stray
    stray = True


posix.register_at_fork(after_in_child=is_stray)


def send(text):
    if stray:  # it came back through the handler
        posix._exit(0)
    data = text.encode()
    while data:
        data = data[posix.write(channel, data):]


def dumps(value):
    return "".join(encode(value, 0))


def write_files(folder, files):
    made = {folder}
    for name, text, packed in files:
        path = folder + "/" + name
        parent = path.rpartition("/")[0]
        if parent not in made:
            make_folders(parent)
            made.add(parent)
        data = text.encode()
        if packed:
            from binascii import a2b_base64

            data = a2b_base64(data)
        with _io.open(path, "wb", 0) as out:
            out.write(data)


def make_folders(path):
    try:
        posix.mkdir(path)
    except FileExistsError:
        pass
    except FileNotFoundError:
        make_folders(path.rpartition("/")[0])
        posix.mkdir(path)


def write_bindings(files):
    """Replaces the files of the function's services."""
    try:
        remove(BINDINGS)
    except FileNotFoundError:
        pass
    make_folders(BINDINGS)
    write_files(BINDINGS, files)


def remove(path):
    for name in posix.listdir(path):
        inside = path + "/" + name
        try:
            posix.unlink(inside)
        except (IsADirectoryError, PermissionError):
            remove(inside)
    posix.rmdir(path)


def add_layer(layer):
    """Puts the dependency layer on the path, with what its .pth files ask for."""
    names = posix.listdir(layer)
    sys.path.append(layer)
    if any(name.endswith(".pth") for name in names):
        import site

        site.addsitedir(layer)


def load(order):
    global handler
    folder = order["dir"]
    write_files(folder, order["files"])
    # Behind the standard library: a function in http.py must not break those who import http.
    sys.path.append(folder)
    # The import system may remember the folder as it was.
    sys.path_importer_cache.pop(folder, None)
    if order.get("layer"):
        add_layer(order["layer"])
    module, _, name = order["handler"].rpartition(".")
    found = getattr(find(folder, module, order.get("code")), name, None)
    if found is None:
        return "module %s has no function %s" % (module, name)
    if not callable(found):
        return "%s is not a function" % order["handler"]
    if not takes_two(found):
        return "%s must take exactly 2 positional arguments (context, payload)" % order["handler"]
    handler = found
    return None


def find(folder, module, code):
    """The handler's module: by file where it is one, whatever the file is called."""
    global compiled
    path = folder + "/" + module + ".py"
    if code:
        code = marshal.loads(bytes.fromhex(code))
    else:
        try:
            with _io.open(path, "rb", 0) as file:
                source = file.read()
        except FileNotFoundError:
            __import__(module)
            return sys.modules[module]
        code = compile(source, path, "exec", dont_inherit=True)
        compiled = marshal.dumps(code).hex()
    loaded = type(sys)(module)
    loaded.__file__ = path
    if module not in getattr(sys, "stdlib_module_names", ()):
        sys.modules[module] = loaded
    exec(code, loaded.__dict__)
    return loaded


def takes_two(function):
    code = getattr(function, "__code__", None)
    if code is None:
        return takes_two_by_signature(function)
    bound = 1 if getattr(function, "__self__", None) is not None else 0
    wanted = code.co_argcount - bound
    open_ended = code.co_flags & 0x04
    keywords = set(code.co_varnames[code.co_argcount:][: code.co_kwonlyargcount])
    if keywords - set(getattr(function, "__kwdefaults__", None) or ()):
        return False
    return wanted == 2 or (open_ended and wanted < 2)


def takes_two_by_signature(function):
    import inspect

    try:
        inspect.signature(function).bind(None, None)
    except ValueError:  # a built-in that does not tell
        return True
    except TypeError:
        return False
    return True


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # the function closed or replaced it
            pass


def children_left():
    """Whether processes that the function started still run: the engine then replaces the worker."""
    ended = posix.WEXITED | posix.WNOHANG | posix.WNOWAIT
    try:
        if posix.waitid(posix.P_ALL, 0, ended) is None:
            return True
        # One that ended and was not waited for stands before those that still run.
        for thread in posix.listdir("/proc/self/task"):
            with _io.open("/proc/self/task/%s/children" % thread, "rb", 0) as file:
                children = file.read().split()
            for child in children:
                if posix.waitid(posix.P_PID, int(child), ended) is None:
                    return True
        return False
    except ChildProcessError:
        return False
    except Exception:
        return True


def trace(error):
    import traceback

    step = error.__traceback__
    while step and step.tb_frame.f_code.co_filename == trace.__code__.co_filename:
        step = step.tb_next  # this file's own frames say nothing to the function's author
    lines = traceback.format_exception(type(error), error, step)
    return "".join(lines).rstrip("\n").split("\n")


def place(error, folder):
    """The last line of the function's own files that an error came through."""
    found = ""
    step = error.__traceback__
    while step:
        path = step.tb_frame.f_code.co_filename
        if path.startswith(folder + "/"):
            found = " (%s, line %d)" % (path[len(folder) + 1:], step.tb_lineno)
        step = step.tb_next
    return found


def explain(error):
    try:
        text = str(error)
    except Exception:
        text = ""
    return text or type(error).__name__


def kind_of(error):
    return "InputError" if isinstance(error, (ValueError, TypeError)) else "FunctionError"


def failed(call, kind, message, stacktrace):
    global encode
    encode = make_encoder()  # one that gave up midway still remembers what it was inside of
    left = ',"left":1' if not apart and children_left() else ""
    parts = (call, kind, dumps(message), dumps(stacktrace), left)
    return '{"err":%d,"type":"%s","message":%s,"stacktrace":%s%s}\n' % parts


def serve(order):
    call = order["call"]
    if "bindings" in order:
        try:
            write_bindings(order["bindings"])
        except BaseException as error:
            text = "the files of its services cannot be written: " + explain(error)
            return failed(call, "SystemError", text, [])
    try:
        result = handler(order["context"], order["payload"])
    except BaseException as error:  # SystemExit and KeyboardInterrupt end the call, not the worker
        message = explain(error)
        if isinstance(error, SystemExit):
            message = "the handler called sys.exit(%s)" % ("" if error.code is None else error.code)
        return failed(call, kind_of(error), message, trace(error))
    try:
        payload = "".join(encode(result, 0))
    except BaseException as error:
        message = "the result cannot be written as JSON: " + explain(error)
        return failed(call, "FunctionError", message, [])
    left = ',"left":1' if not apart and children_left() else ""
    return '{"ok":%d%s,"payload":%s}\n' % (call, left, payload)


class Zygote:
    """Gives each call a process of its own: a fork of this one, in which the handler is loaded.

    When that has ended, so has all that it started, and what it left in files is gone. What cannot
    be undone, such as a change of the function's own files, costs this process its place.
    """

    FOLDERS = ("/tmp", "/dev/shm")

    def __init__(self):
        import gc

        gc.collect()
        gc.freeze()  # what is loaded stays shared with the forks
        self.processes = self.running()
        self.entries = [(folder, set(posix.listdir(folder))) for folder in self.FOLDERS]
        self.files = self.stamps(FUNCTION)

    def serve(self, order):
        if "bindings" in order:
            try:
                write_bindings(order.pop("bindings"))
            except BaseException as error:
                text = "the files of its services cannot be written: " + explain(error)
                return failed(order["call"], "SystemError", text, [])
        reading, writing = posix.pipe()
        child = posix.fork()
        if child == 0:
            self.serve_and_end(order, writing)
        posix.close(writing)
        reply = self.read(reading, child)
        posix.close(reading)
        status = posix.waitpid(child, 0)[1]
        if not reply.endswith("\n"):
            message = "the function's process " + ended(status)
            reply = failed(order["call"], "FunctionError", message, [])
        if self.leaves_nothing():
            return reply
        return '{"left":1,' + reply[1:]

    def serve_and_end(self, order, writing):
        global stray, apart, channel
        stray = False
        apart = True
        reply = serve(order)
        flush()
        channel = writing
        send(reply)
        posix._exit(0)

    def read(self, reading, child):
        """The fork's reply: one line, or less when it ended before it was done."""
        import select

        poller = select.poll()
        poller.register(reading, select.POLLIN)
        if hasattr(posix, "pidfd_open"):  # else its children that hold the pipe are waited for too
            pidfd = posix.pidfd_open(child)
            poller.register(pidfd, select.POLLIN)
        data = bytearray()
        while not data.endswith(b"\n"):
            if all(ready != reading for ready, _ in poller.poll()):
                break
            chunk = posix.read(reading, 65536)
            if not chunk:
                break
            data += chunk
        if hasattr(posix, "pidfd_open"):
            posix.close(pidfd)
        return data.decode()

    def leaves_nothing(self):
        try:
            return self.end_processes() and self.remove_files() and self.stamps(FUNCTION) == self.files
        except OSError:
            return False

    def running(self):
        return {name for name in posix.listdir("/proc") if name.isdigit()}

    def end_processes(self):
        for _ in range(100):
            left = self.running() - self.processes
            if not left:
                return True
            for process in left:
                try:
                    posix.kill(int(process), 9)
                except ProcessLookupError:
                    pass
            try:
                posix.waitpid(-1, posix.WNOHANG)
            except ChildProcessError:
                pass
        return False

    def remove_files(self):
        for folder, known in self.entries:
            for name in posix.listdir(folder):
                if name not in known:
                    path = folder + "/" + name
                    try:
                        posix.unlink(path)
                    except IsADirectoryError:
                        remove(path)
        return True

    def stamps(self, folder):
        found = {}
        with posix.scandir(folder) as entries:
            for entry in entries:
                stat = entry.stat(follow_symlinks=False)
                found[entry.path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_mode)
                if entry.is_dir(follow_symlinks=False):
                    found.update(self.stamps(entry.path))
        return found


def ended(status):
    if posix.WIFEXITED(status):
        return "exited with status %d" % posix.WEXITSTATUS(status)
    import signal

    name = signal.Signals(posix.WTERMSIG(status)).name
    if name == "SIGKILL":
        return "was killed, as for using more memory than its limit"
    return "was ended by " + name


def initialise(order):
    global zygote
    try:
        reason = load(order)
    except BaseException as error:
        reason = "%s: %s" % (type(error).__name__, explain(error))
        if not isinstance(error, SyntaxError):  # which says itself where it is
            reason += place(error, order["dir"])
        if not isinstance(error, (SyntaxError, ImportError)):
            sys.stderr.write("\n".join(trace(error)) + "\n")
    flush()
    if reason:
        return '{"fail":%s}\n' % dumps(reason)
    if order.get("fork"):
        zygote = Zygote()
    return '{"ready":1,"code":"%s"}\n' % compiled if compiled else '{"ready":1}\n'


def touch():
    """Runs every path once, so that the first real function finds its memory already there."""
    global handler, compiled
    source = "def handle(context, payload):\n    return {'f': 'x %s' % payload.get('n')}\n"
    order = '{"init":{"files":[["touched.py",%s,false]],"dir":"%s","handler":"touched.handle"%s}}'
    code = ""
    for _ in range(3):
        line = order % (dumps(source), FUNCTION, code)
        initialise(scan(line.encode().decode(), 0)[0]["init"])
        code = ',"code":"%s"' % compiled
        line = b'{"call":0,"context":{"secrets":{}},"payload":{"n":"\\u00e9","l":[1,2.5,true,null]}}\n'
        serve(scan(line.decode(), 0)[0])
        flush()
        # Nothing of it stays.
        sys.path.remove(FUNCTION)
        del sys.modules["touched"]
        posix.unlink("touched.py")
    handler = compiled = None


def main():
    sys.stdout.reconfigure(line_buffering=True)
    sys.dont_write_bytecode = True
    sys.argv = ["function"]
    posix.mkdir(FUNCTION)
    posix.chdir(FUNCTION)
    if not awaited:
        touch()
    queued = ',"queue":1' if take.__name__ == "take" else ""
    send('{"ready":1,"version":"%d.%d.%d"%s}\n' % (*sys.version_info[:3], queued))
    while True:
        line = take()
        if not line:
            return
        order = scan(line.decode(), 0)[0]
        if "call" in order:
            reply = zygote.serve(order) if zygote else serve(order)
            flush()
            send(reply)
        else:
            send(initialise(order["init"]))


main()
posix._exit(0)
