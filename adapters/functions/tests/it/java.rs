//! Java: handlers as classes, what they take and return, and how each way of failing is told.

use adapter_functions::{ErrorType, Revision};
use serde_json::{Value, json};

use crate::support::{call, error, example, example_json, node, node_with, revision};

/// A class `Main` with this body for `apply(context, payload)`.
fn java(types: &str, body: &str) -> Revision {
    let text = format!(
        "import java.util.*;\nimport java.util.function.BiFunction;\n\
         public class Main implements BiFunction<{types}> {{\n{body}\n}}\n"
    );
    revision("java", "Main.java", &text)
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_answers_with_maps_and_with_classes_of_its_own() {
    let node = node();
    for (file, handler) in [
        ("Hello.java", ""),
        ("HelloWithPojo.java", ""),
        (
            "HelloWithPojo.java",
            "io.dispatchframework.examples.HelloWithPojo",
        ),
    ] {
        let mut hello = revision("java", file, &example(&format!("java/{file}")));
        hello.id = format!("{file}-{handler}");
        hello.handler = handler.to_owned();
        hello.schema_in = Some(example_json("hello.in.json"));
        hello.schema_out = Some(example_json("hello.out.json"));
        let id = node.load(hello).await;
        let jon = json!({"name": "Jon", "place": "Winterfell"});
        let expected = json!({"myField": "Hello, Jon from Winterfell"});
        assert_eq!(node.output(&id, jon).await, expected, "{file} {handler}");
        let noone = json!({"myField": "Hello, Noone from Nowhere"});
        assert_eq!(node.output(&id, json!({})).await, noone);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exceptions_are_told_apart_and_leave_the_worker_alive() {
    let node = node();
    let id = node
        .load(java(
            "Map<String, Object>, String, Object",
            "static class Odd extends IllegalArgumentException { Odd(String m) { super(m); } }
             public Object apply(Map<String, Object> context, String which) {
                 switch (which) {
                     case \"i\": throw new IllegalArgumentException(\"bad value\");
                     case \"o\": throw new Odd(\"odd\");
                     case \"r\": throw new RuntimeException(\"broke\", new IllegalStateException(\"inside\"));
                     case \"n\": throw new NullPointerException();
                     case \"s\": return apply(context, which);
                     default: return which;
                 }
             }",
        ))
        .await;
    for (which, kind, message) in [
        ("i", ErrorType::InputError, "bad value"),
        ("o", ErrorType::InputError, "odd"),
        ("r", ErrorType::FunctionError, "broke"),
        (
            "n",
            ErrorType::FunctionError,
            "java.lang.NullPointerException",
        ),
        (
            "s",
            ErrorType::FunctionError,
            "java.lang.StackOverflowError",
        ),
    ] {
        let done = node.call(&id, json!(which)).await;
        let error = error(&done, kind);
        assert_eq!(error.message, message);
        let trace = error.stacktrace.join("\n");
        assert!(trace.contains("\tat Main.apply(Main.java:"), "{trace}");
        assert!(
            !trace.contains("dispatch.worker"),
            "the worker shows: {trace}"
        );
        assert_eq!(
            which == "r",
            trace.contains("Caused by: java.lang.IllegalStateException: inside")
        );
    }
    assert_eq!(node.output(&id, json!("fine")).await, json!("fine"));
    assert_eq!(node.functions.stats().workers, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_becomes_what_the_handler_declares() {
    let node = node();
    let fields = "enum Colour { RED, GREEN }
        record Point(int x, double y) {}
        static class Order { public List<Point> points; public Colour colour; public long[] counts;
            public Optional<String> note; private Map<String, Integer> sizes;
            public void setSizes(Map<String, Integer> sizes) { this.sizes = sizes; }
            public Map<String, Integer> getSizes() { return sizes; } }
        public Order apply(Map<String, Object> context, Order order) { return order; }";
    let id = node
        .load(java("Map<String, Object>, Main.Order, Main.Order", fields))
        .await;
    let order = json!({
        "points": [{"x": 1, "y": 2.5}, {"x": -3, "y": 4.0}], "colour": "GREEN",
        "counts": [1, 9_007_199_254_740_993_i64], "note": "ü \"quoted\" \u{1F600}\n",
        "sizes": {"a": 1},
    });
    assert_eq!(node.output(&id, order.clone()).await, order);
    for (wrong, said) in [
        (
            json!({"colour": "BLUE"}),
            "payload.colour: a string is no Colour",
        ),
        (
            json!({"points": [{"x": 1.5}]}),
            "payload.points[0].x: the number 1.5 is no int",
        ),
        (
            json!({"sizes": {"a": true}}),
            "payload.sizes.a: a boolean is no Integer",
        ),
        (json!([1]), "payload: a list is no Order"),
    ] {
        let done = node.call(&id, wrong).await;
        assert_eq!(error(&done, ErrorType::InputError).message, said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_no_json_is_the_functions_error() {
    let node = node();
    let id = node
        .load(java(
            "Map<String, Object>, String, Object",
            "public Object apply(Map<String, Object> context, String which) {
                 List<Object> loop = new ArrayList<>();
                 loop.add(loop);
                 switch (which) {
                     case \"nan\": return Double.NaN;
                     case \"loop\": return loop;
                     case \"thread\": return Thread.currentThread();
                     case \"empty\": return this;
                     case \"surrogate\": return \"\\ud800\";
                     default: return Arrays.asList(1, 2.5, \"ü\", null, Map.of(\"a\", true), new int[] {1});
                 }
             }",
        ))
        .await;
    for which in ["nan", "loop", "thread", "empty", "surrogate"] {
        let done = node.call(&id, json!(which)).await;
        let said = &error(&done, ErrorType::FunctionError).message;
        assert!(said.starts_with("the result cannot be"), "{which}: {said}");
    }
    assert_eq!(
        node.output(&id, json!("ok")).await,
        json!([1, 2.5, "ü", null, {"a": true}, [1]])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn timeouts_exits_crashes_and_memory_end_the_worker_and_say_so() {
    let node = node();
    let mut revision = java(
        "Map<String, Object>, String, Object",
        "public Object apply(Map<String, Object> context, String which) {
             switch (which) {
                 case \"sleep\": try { Thread.sleep(60000); } catch (InterruptedException e) { return 1; }
                 case \"exit\": System.exit(7);
                 case \"halt\": Runtime.getRuntime().halt(8);
                 case \"heap\": List<byte[]> all = new ArrayList<>(); while (true) all.add(new byte[1 << 20]);
                 default: return \"fine\";
             }
         }",
    );
    revision.timeout_ms = 4000;
    let id = node.load(revision).await;
    for (which, said) in [
        ("exit", "exited with status 7"),
        ("halt", "exited with status 8"),
        ("heap", "java.lang.OutOfMemoryError"),
        ("sleep", "exceeded the timeout"),
    ] {
        let done = node.call(&id, json!(which)).await;
        let message = &error(&done, ErrorType::FunctionError).message;
        assert!(message.contains(said), "{which}: {message}");
        assert_eq!(node.output(&id, json!("go on")).await, json!("fine"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_prints_is_the_log_and_its_services_are_files() {
    let node = node();
    let id = node
        .load(java(
            "Map<String, Object>, Integer, Object",
            "public Object apply(Map<String, Object> context, Integer n) {
                 System.out.println(\"out ü \" + n);
                 System.out.print(\"no newline\");
                 System.err.println(\"err \" + n);
                 String file = System.getenv(\"SERVICE_BINDING_ROOT\") + \"/pg/password\";
                 try { return new Scanner(new java.io.File(file)).next(); }
                 catch (java.io.IOException e) { throw new RuntimeException(e); }
             }",
        ))
        .await;
    for n in 0..2 {
        let mut order = call(json!(n));
        order.context = json!({"serviceBindings": {"pg": {"password": format!("p{n}")}}});
        order.services = vec![adapter_kit::ServiceFacts {
            name: engine_model::Name::new("pg").expect("it is a name"),
            class: "postgresql".into(),
            provider: "local".into(),
        }];
        let done = node.functions.call(&id, order).await;
        assert_eq!(done.output, json!(format!("p{n}")), "{:?}", done.error);
        assert_eq!(
            done.logs.stdout,
            [format!("out ü {n}"), "no newline".to_owned()]
        );
        assert_eq!(done.logs.stderr, [format!("err {n}")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_handler_has_exactly_one_reason() {
    let node = node();
    let fine = "public Object apply(Map<String, Object> c, Object p) { return 1; }";
    let types = "Map<String, Object>, Object, Object";
    let mut absent = java(types, fine);
    absent.handler = "io.nothing.Here".into();
    for (revision, part) in [
        (
            java(
                types,
                "public Object apply(Map<String, Object> c, Object p) { return 1 }",
            ),
            "Main.java:4: ';' expected",
        ),
        (java(types, "nonsense"), "Main.java:"),
        (
            revision("java", "Main.java", "public class Main {}"),
            "Main does not implement java.util.function.BiFunction",
        ),
        (
            java(types, &format!("Main(int n) {{}} {fine}")),
            "Main has no constructor without arguments",
        ),
        (
            java(
                types,
                &format!("Main() {{ throw new RuntimeException(\"no\"); }} {fine}"),
            ),
            "java.lang.RuntimeException: no",
        ),
        (
            java(types, &format!("static {{ System.exit(6); }} {fine}")),
            "its process exited with status 6 while it loaded",
        ),
        (absent, "class io.nothing.Here was not found"),
    ] {
        let reason = node.reason(revision).await;
        assert!(
            reason.starts_with("Invalid function file or handler: "),
            "{reason}"
        );
        assert!(reason.contains(part), "{reason}");
        assert_eq!(reason.lines().count(), 1, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_it_leaves_behind_are_ended_with_the_worker() {
    let node = node();
    let id = node
        .load(java(
            "Map<String, Object>, Boolean, Object",
            "static int calls = 0;
             public Object apply(Map<String, Object> c, Boolean leave) {
                 try {
                     Process p = new ProcessBuilder(\"sleep\", leave ? \"1000\" : \"0\").start();
                     if (!leave) p.waitFor();
                 } catch (Exception e) { throw new RuntimeException(e); }
                 return ++calls;
             }",
        ))
        .await;
    assert_eq!(node.output(&id, json!(false)).await, json!(1));
    assert_eq!(node.output(&id, json!(true)).await, json!(2));
    assert_eq!(
        node.output(&id, json!(false)).await,
        json!(1),
        "it is another worker"
    );
    assert_eq!(node.output(&id, Value::Bool(false)).await, json!(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_compiled_once_and_its_classes_outlast_the_node() {
    let state = tempfile::tempdir().expect("a state directory");
    let start = || node_with(|config| config.state_dir = state.path().to_owned());
    let answering = |text: &str| {
        let body = format!(
            "public Object apply(Map<String, Object> context, Object payload) {{ return \"{text}\"; }}"
        );
        let mut function = java("Map<String, Object>, Object, Object", &body);
        text.clone_into(&mut function.id);
        function
    };
    let kept = || {
        let folders = std::fs::read_dir(state.path().join("compiled")).expect("it is kept");
        let files = folders.map(|folder| folder.expect("an entry").path().join("code"));
        files.collect::<std::collections::BTreeSet<_>>()
    };
    let node = start();
    let one = node.load(answering("one")).await;
    assert_eq!(node.output(&one, json!(null)).await, "one");
    let first = kept();
    let two = node.load(answering("two")).await;
    assert_eq!(node.output(&two, json!(null)).await, "two");
    let [of_one] = Vec::from_iter(&first)[..] else {
        panic!("one source is kept once: {first:?}");
    };
    let both = kept();
    let of_two = both.difference(&first).next().expect("the other is kept");
    node.functions
        .shutdown(std::time::Duration::from_secs(5))
        .await;
    // What answers on the next node is what was kept, and no compiler.
    std::fs::copy(of_two, of_one).expect("the classes are exchanged");
    let node = start();
    let one = node.load(answering("one")).await;
    assert_eq!(node.output(&one, json!(null)).await, "two");
}
