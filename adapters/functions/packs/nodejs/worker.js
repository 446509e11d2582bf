// The Node worker: one function, one call at a time, over one private socket.
//
// It speaks lines of JSON on descriptor 3, as packs/python3/worker.py says; node itself marks inherited
// descriptors close-on-exec, so no child of the function gets it. While the function has nothing
// of its own pending (timer, socket, child), the worker waits in a plain read, which is twice as
// fast to wake as the event loop. The first time that something is pending, it goes over to the
// event loop for good, so background work goes on between calls.
'use strict';

const fs = require('fs');
const path = require('path');
const Module = require('module');

const CHANNEL = 3;
const FUNCTION = '/tmp/function'; // the engine says the same in every order
const BINDINGS = '/tmp/bindings'; // what $SERVICE_BINDING_ROOT says
const exit = process.reallyExit.bind(process);
let handler = null;
let current = null; // the id of the call that is being served
let socket = null; // set once the event loop reads the channel
let pending = ''; // what came after the last whole line

const chunk = Buffer.allocUnsafe(65536);
const decoder = new (require('string_decoder').StringDecoder)('utf8');

function send(text) {
    if (socket) {
        socket.write(text);
        return;
    }
    const data = Buffer.from(text);
    let sent = 0;
    while (sent < data.length) sent += fs.writeSync(CHANNEL, data, sent);
}

function writeFiles(folder, files) {
    for (const [name, text, packed] of files) {
        const file = path.join(folder, name);
        if (path.dirname(file) !== FUNCTION) fs.mkdirSync(path.dirname(file), { recursive: true });
        fs.writeFileSync(file, packed ? Buffer.from(text, 'base64') : text);
    }
}

// A single script is compiled as `require` would, without its looking around for packages first.
function compile(file, text) {
    const module = new Module(file, null);
    module.filename = file;
    module.paths = Module._nodeModulePaths(path.dirname(file));
    module._compile(text, file);
    module.loaded = true;
    Module._cache[file] = module;
    return module.exports;
}

async function find(order) {
    const file = path.resolve(order.dir, order.handler);
    const [[name, text]] = order.files;
    if (order.files.length === 1 && path.join(order.dir, name) === file && /\.c?js$/.test(name)) {
        return compile(file, text);
    }
    try {
        return require(file);
    } catch (error) {
        if (!error || error.code !== 'ERR_REQUIRE_ESM') throw error;
        return import(require('url').pathToFileURL(file).href);
    }
}

async function load(order) {
    writeFiles(order.dir, order.files);
    let loaded = await find(order);
    if (typeof loaded !== 'function' && loaded && typeof loaded.default === 'function') loaded = loaded.default;
    if (typeof loaded !== 'function') return `${order.handler} does not export a function`;
    handler = loaded;
    return null;
}

function explain(error) {
    if (error instanceof Error) return error.message || error.name;
    try {
        return typeof error === 'string' ? error : JSON.stringify(error) || String(error);
    } catch {
        return 'an error that cannot be shown';
    }
}

function failed(type, error, message) {
    const stacktrace = error instanceof Error && typeof error.stack === 'string' ? error.stack.split('\n') : [];
    const own = stacktrace.findIndex((line) => line.includes(__filename));
    if (own > 0) stacktrace.length = own;
    reply(`{"err":${current},"type":"${type}","message":${JSON.stringify(message)},"stacktrace":${JSON.stringify(stacktrace)}${left()}}\n`);
}

function threw(error) {
    failed(error instanceof TypeError ? 'InputError' : 'FunctionError', error, explain(error));
}

function returned(result) {
    let payload;
    try {
        payload = JSON.stringify(result);
    } catch (error) {
        failed('FunctionError', null, `the result cannot be written as JSON: ${explain(error)}`);
        return;
    }
    reply(`{"ok":${current}${left()},"payload":${payload === undefined ? 'null' : payload}}\n`);
}

// Whether processes that the function started still run: the engine then replaces the worker.
function left() {
    return process.getActiveResourcesInfo().includes('ProcessWrap') ? ',"left":1' : '';
}

function reply(text) {
    if (current === null) return; // the call was already answered, by an uncaught error
    current = null;
    send(text);
    if (!socket) setImmediate(next);
}

function serve(order) {
    current = order.call;
    if (order.bindings) {
        try {
            fs.rmSync(BINDINGS, { recursive: true, force: true });
            fs.mkdirSync(BINDINGS);
            writeFiles(BINDINGS, order.bindings);
        } catch (error) {
            failed('SystemError', null, `the files of its services cannot be written: ${explain(error)}`);
            return;
        }
    }
    let result;
    try {
        result = handler(order.context, order.payload);
    } catch (error) {
        threw(error);
        return;
    }
    if (result && typeof result.then === 'function') {
        const id = order.call;
        result.then(
            (value) => current === id && returned(value),
            (error) => current === id && threw(error),
        );
    } else {
        returned(result);
    }
}

// The first line of the function's own files that an error's stack names.
function place(error, folder) {
    const lines = String((error && error.stack) || '').split('\n');
    for (const line of lines) {
        const at = line.indexOf(`${folder}/`);
        const found = at < 0 ? null : /^(.+?):(\d+)/.exec(line.slice(at + folder.length + 1));
        if (found) return ` (${found[1]}, line ${found[2]})`;
    }
    return '';
}

async function initialise(order) {
    let reason;
    try {
        reason = await load(order);
    } catch (error) {
        const name = error instanceof Error ? error.name : 'Error';
        reason = `${name}: ${explain(error).split('\n')[0]}${place(error, order.dir)}`;
        if (error && error.stack) process.stderr.write(`${error.stack}\n`);
    }
    send(reason ? `{"fail":${JSON.stringify(reason)}}\n` : '{"ready":1}\n');
    if (!socket) setImmediate(next);
}

function handle(line) {
    const order = JSON.parse(line);
    if (order.init) initialise(order.init);
    else serve(order);
}

// Waits for the next order, in whichever of the two ways fits what is pending.
function next() {
    if (process.getActiveResourcesInfo().length > 0) {
        listen();
        return;
    }
    for (;;) {
        const end = pending.indexOf('\n');
        if (end >= 0) {
            const line = pending.slice(0, end);
            pending = pending.slice(end + 1);
            handle(line);
            return;
        }
        const count = fs.readSync(CHANNEL, chunk, 0, chunk.length, null);
        if (count === 0) exit(0);
        pending += decoder.write(count === chunk.length ? chunk : chunk.subarray(0, count));
    }
}

function listen() {
    socket = new (require('net').Socket)({ fd: CHANNEL, readable: true, writable: true });
    let parts = [];
    socket.setEncoding('utf8');
    socket.on('data', (text) => {
        const end = text.indexOf('\n');
        if (end < 0) {
            parts.push(text);
            return;
        }
        const line = parts.join('') + text.slice(0, end);
        parts = [text.slice(end + 1)];
        handle(line);
    });
    socket.on('end', () => exit(0));
    socket.on('error', () => exit(0));
}

function uncaught(error) {
    process.stderr.write(`${(error && error.stack) || explain(error)}\n`);
    if (current === null) exit(1);
    const text = JSON.stringify(explain(error));
    const line = `{"err":${current},"type":"FunctionError","message":${text},"stacktrace":${JSON.stringify(String((error && error.stack) || '').split('\n'))},"left":1}\n`;
    current = null;
    send(line);
}

// Runs every path once, so that the first real function finds its memory already there.
async function touch() {
    fs.mkdirSync(FUNCTION);
    process.chdir(FUNCTION);
    const text = 'module.exports = (context, payload) => ({ f: `x ${payload.n}` });';
    for (let i = 0; i < 3; i++) {
        const files = [['touched.js', text, false]];
        const order = JSON.stringify({ init: { files, dir: FUNCTION, handler: './touched.js' } });
        await load(JSON.parse(decoder.write(Buffer.from(order))).init);
        const line = JSON.parse('{"call":0,"context":{"secrets":{}},"payload":{"n":"\u00e9","l":[1,2.5]}}');
        JSON.stringify(handler(line.context, line.payload));
        // Nothing of it stays.
        delete Module._cache[`${FUNCTION}/touched.js`];
        fs.unlinkSync('touched.js');
    }
    left();
    handler = null;
}

process.on('beforeExit', () => {
    if (current !== null) failed('FunctionError', null, 'the handler waits for something that can never come');
});
process.on('uncaughtException', uncaught);
process.on('unhandledRejection', uncaught);
touch().then(() => {
    send(`{"ready":1,"version":"${process.versions.node}"}\n`);
    setImmediate(next);
});
