//! Dependency layers, really built by the real tools from the real registries.

use adapter_functions::{ErrorType, Functions, Layer, LayerSpec, Revision, SystemPackage};
use adapter_kit::Blobs as _;
use engine_model::Used;
use serde_json::{Value, json};

use crate::support::{Node, example, node, node_with, revision};

fn spec(manifest: &str) -> LayerSpec {
    LayerSpec {
        manifest: Some(manifest.to_owned()),
        system_packages: Vec::new(),
    }
}

async fn build(functions: &Functions, language: &str, manifest: &str) -> Layer {
    let base = functions
        .base_image(language, "")
        .await
        .expect("there is an interpreter");
    let layer = functions
        .build_layer(&base, &spec(manifest))
        .await
        .expect("it builds");
    layer.expect("the manifest asks for something")
}

async fn fails(node: &Node, language: &str, spec: &LayerSpec) -> String {
    let base = node
        .functions
        .base_image(language, "")
        .await
        .expect("there is an interpreter");
    node.functions
        .build_layer(&base, spec)
        .await
        .expect_err("it does not build")
        .reason
}

fn with(layer: &Layer, mut revision: Revision) -> Revision {
    revision.layer = Some(layer.digest.clone());
    revision
}

#[tokio::test(flavor = "multi_thread")]
async fn psycopg2_installs_imports_and_moves_to_another_node() {
    let node = node();
    let layer = build(
        &node.functions,
        "python3",
        &example("postgres/requirements.txt"),
    )
    .await;
    let again = build(&node.functions, "python3", "# the same\npsycopg2-binary\n").await;
    assert_eq!(layer, again);
    let text = "import psycopg2\ndef handle(c, p):\n    return [psycopg2.__version__, psycopg2.__cached__ is not None]\n";
    let import = with(&layer, revision("python3", "import.py", text));
    let output = node.once(import.clone(), Value::Null).await.output;
    assert!(
        output[0].as_str().is_some_and(|v| v.starts_with("2.")),
        "{output}"
    );
    assert_eq!(output[1], json!(true));
    // Another node has only the blob.
    let blobs = node.blobs.clone();
    let other = node_with(|config| config.blobs = blobs);
    assert_eq!(other.once(import, Value::Null).await.output, output);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_manifest_comes_to_the_same_bytes_on_two_nodes() {
    let (one, two) = (node(), node());
    let manifest = "six==1.17.0\n";
    let first = build(&one.functions, "python3", manifest).await;
    assert_eq!(first, build(&two.functions, "python3", manifest).await);
    assert_eq!(
        one.blobs.get(&first.digest).await.expect("is stored").len() as u64,
        first.bytes
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_of_npm_are_found_by_require_and_by_import() {
    let node = node();
    let manifest = r#"{"dependencies": {"ms": "2.1.3"}}"#;
    let layer = build(&node.functions, "nodejs", manifest).await;
    let cjs = revision(
        "nodejs",
        "a.js",
        "module.exports = () => require('ms')('2 days');",
    );
    let esm = revision(
        "nodejs",
        "b.mjs",
        "import ms from 'ms';\nexport default () => ms('2 days');",
    );
    for revision in [cjs, esm] {
        assert_eq!(
            node.once(with(&layer, revision), Value::Null).await.output,
            json!(172_800_000)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_cannot_be_installed_says_what_the_tool_said() {
    let node = node();
    let said = fails(&node, "python3", &spec("six==0.0.0.1\n")).await;
    assert!(
        said.contains("six==0.0.0.1") && said.lines().count() <= 12,
        "{said}"
    );
    let said = fails(&node, "python3", &spec("-e git+https://host/x\n")).await;
    assert!(said.contains("only packages from an index"), "{said}");
    let said = fails(&node, "nodejs", &spec("{nonsense")).await;
    assert!(said.starts_with("package.json: "), "{said}");
    let said = fails(
        &node,
        "nodejs",
        &spec(r#"{"dependencies":{"ms":"99.0.0"}}"#),
    )
    .await;
    assert!(
        said.starts_with("npm exited with 1:") && said.contains("ms@99.0.0"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_takes_too_long_is_ended() {
    let node = node_with(|c| c.builds.timeout = std::time::Duration::from_millis(50));
    let said = fails(&node, "python3", &spec("six==1.17.0\n")).await;
    assert!(said.contains("did not finish within 50ms"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_asks_for_nothing_has_no_layer() {
    let node = node();
    let base = node
        .functions
        .base_image("python3", "")
        .await
        .expect("there is Python");
    for nothing in [LayerSpec::default(), spec("# nothing\n")] {
        assert_eq!(node.functions.build_layer(&base, &nothing).await, Ok(None));
    }
}

fn packages(names: &[(&str, &str)], manifest: Option<&str>) -> LayerSpec {
    let package = |(name, version): &(&str, &str)| SystemPackage {
        name: (*name).to_owned(),
        version: (*version).to_owned(),
    };
    LayerSpec {
        manifest: manifest.map(str::to_owned),
        system_packages: names.iter().map(package).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn system_packages_that_the_host_lacks_are_in_the_layer() {
    let (one, two) = (node(), node());
    let base = one
        .functions
        .base_image("python3", "")
        .await
        .expect("there is Python");
    // Their versions are those of any Debian: the second is a library, with others that it needs.
    let asks = packages(
        &[("hello", "2"), ("libgeos-c1v5", ""), ("libc6", "")],
        Some("six==1.17.0"),
    );
    let layer = one
        .functions
        .build_layer(&base, &asks)
        .await
        .expect("it builds");
    let again = two
        .functions
        .build_layer(&base, &asks)
        .await
        .expect("it builds");
    assert_eq!(layer, again, "two builds come to the same bytes");
    let text = "import ctypes, subprocess, six
def handle(context, payload):
    geos = ctypes.CDLL('libgeos_c.so.1')
    geos.GEOSversion.restype = ctypes.c_char_p
    said = subprocess.run(['hello', '-t'], capture_output=True, text=True).stdout.strip()
    return [said, geos.GEOSversion().decode(), six.__version__]
";
    let function = with(
        &layer.expect("it asks for something"),
        revision("python3", "a.py", text),
    );
    let done = one.once(function, Value::Null).await;
    assert_eq!(done.output[0], json!("hello, world"), "{:?}", done.error);
    assert!(
        done.output[1].as_str().is_some_and(|v| v.starts_with("3.")),
        "{}",
        done.output
    );
    assert_eq!(done.output[2], json!("1.17.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn system_packages_that_are_nowhere_are_named_with_the_command_that_installs_them() {
    let node = node();
    for (name, version, named) in [
        ("no-such-package", "1", "no-such-package=1*"),
        ("libc6", "0.0", "libc6=0.0*"),
    ] {
        let said = fails(&node, "nodejs", &packages(&[(name, version)], None)).await;
        let expected = format!(
            "the system packages {named} are not installed on this node, and could not be \
             fetched; to install them: apt-get install {named}:\n"
        );
        assert!(said.starts_with(&expected), "{said}");
        assert!(
            said.contains("\nE: "),
            "apt-get's own words are missing: {said}"
        );
    }
    let said = fails(&node, "nodejs", &packages(&[("-o", "")], None)).await;
    assert_eq!(said, "\"-o\" is not the name of a system package");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_nowhere_is_the_reason() {
    let node = node();
    let mut lost = revision("python3", "x.py", "def handle(c, p): pass\n");
    lost.layer = Some(adapter_kit::Digest::of(b"nothing"));
    assert!(node.reason(lost).await.ends_with("is nowhere"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_run_code_or_read_the_host_is_refused() {
    let node = node();
    for line in [
        "-e .",
        "--editable=.",
        "git+https://host/x",
        "./local",
        "/etc",
        "../x",
        "x @ https://host/x.tar.gz",
        "x@https://host/x.tar.gz",
        "file:///etc/passwd",
        "-r /etc/passwd",
        "-c other.txt",
        "--find-links=file:///etc",
        "--no-binary :all:",
        "six --no-binary=:all:",
        "six==1.17.0 --hash=sha256:00 --global-option=x",
        "--pre --no-binary=:all:",
        "--index-url https://host/ --no-binary :all:",
        "--prefix=/usr",
        "--index-url https://host/${PIP_INDEX_URL}",
    ] {
        let said = fails(&node, "python3", &spec(line)).await;
        let expected = format!(
            "requirements.txt: \"{line}\": only packages from an index can be installed, as wheels"
        );
        assert_eq!(said, expected);
    }
    for range in [
        "file:../x",
        "git+ssh://host/x",
        "https://host/x.tgz",
        "user/repo",
        "./x",
        "..",
    ] {
        for manifest in [
            json!({"dependencies": {"x": range}}),
            json!({"dependencies": {"y": "1"}, "overrides": {"x": range}}),
            json!({"dependencies": {"y": "1"}, "overrides": {"y": {".": "1", "x": range}}}),
        ] {
            let said = fails(&node, "nodejs", &spec(&manifest.to_string())).await;
            assert_eq!(
                said,
                "package.json: x: only packages from a registry can be installed"
            );
        }
    }
    for text in [
        "[]",
        r#"{"dependencies":[]}"#,
        r#"{"dependencies":{"x":1}}"#,
        r#"{"dependencies":{"x":"1"},"overrides":"x"}"#,
    ] {
        let said = fails(&node, "nodejs", &spec(text)).await;
        assert!(said.starts_with("package.json: "), "{said}");
    }
    let parent =
        "<parent><groupId>no</groupId><artifactId>such</artifactId><version>1</version></parent>";
    let said = fails(&node, "java", &spec(&pom("commons-io", "2.11.0", parent))).await;
    assert_eq!(
        said,
        "pom.xml: a parent is not supported: its builds could run code"
    );
    for (expression, properties) in [
        ("${env.HOME}", ""),
        ("${settings.localRepository}", ""),
        ("${user.home}", ""),
        ("${env<!-- -->.HOME}", ""),
        ("${env<?x y?>.HOME}", ""),
        ("<![CDATA[${env]]>.HOME}", ""),
        ("${a}{env.HOME}", "<a>$</a>"),
        ("${a}", "<a>${env.HOME}</a>"),
        ("${a}", "<a>${b}</a><b>${a}</b>"),
    ] {
        let more = format!("<properties>{properties}</properties>");
        let said = fails(&node, "java", &spec(&pom("commons-io", expression, &more))).await;
        assert!(said.starts_with("pom.xml: "), "{expression}: {said}");
        assert!(!said.contains("mvn exited"), "{expression}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_pin_what_is_installed() {
    let node = node();
    let hash = "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274";
    let pinned = format!("six==1.17.0 \\\n    --hash=sha256:{hash}\n");
    build(&node.functions, "python3", &pinned).await;
    let other = pinned.replace("4721", "4722");
    let said = fails(&node, "python3", &spec(&other)).await;
    assert!(said.to_lowercase().contains("hash"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_is_a_version_or_that_of_a_dependency() {
    let node = node();
    let manifest = r#"{"dependencies": {"ms": "2.1.3"}, "overrides": {"debug": {"ms": "$ms"}}}"#;
    build(&node.functions, "nodejs", manifest).await;
}

/// A pom.xml that asks for this, of the repository that Debian's packages make up.
fn pom(artifact: &str, version: &str, more: &str) -> String {
    format!(
        "<project>
           <repositories>
             <repository><id>central</id><url>file:///usr/share/maven-repo</url></repository>
           </repositories>
           <dependencies>
             <dependency>
               <groupId>{artifact}</groupId><artifactId>{artifact}</artifactId>
               <version>{version}</version>
             </dependency>
           </dependencies>{more}
         </project>"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_of_maven_are_on_the_class_path_and_come_to_the_same_bytes_twice() {
    let (one, two) = (node(), node());
    // A plugin that cannot be had shows that none is run.
    let build = "<build><plugins><plugin><groupId>no</groupId><artifactId>such</artifactId>\
                 <version>1</version><extensions>true</extensions></plugin></plugins></build>";
    let properties = "<properties><of.io>2.${minor}</of.io><minor>11.0</minor>\
                      <unused>${env.HOME}</unused></properties>";
    let manifest = pom("commons-io", "${of.io}", &format!("{build}{properties}"));
    let layer = self::build(&one.functions, "java", &manifest).await;
    assert_eq!(layer, self::build(&two.functions, "java", &manifest).await);
    let text = "import java.util.Map;
        import org.apache.commons.io.FilenameUtils;
        public class Main implements java.util.function.BiFunction<Map<String, Object>, String, String> {
            public String apply(Map<String, Object> context, String path) {
                return FilenameUtils.getExtension(path);
            }
        }";
    let function = with(&layer, revision("java", "Main.java", text));
    let done = one.once(function, json!("/a/b.tar")).await;
    assert_eq!(done.output, json!("tar"), "{:?}", done.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_of_java_can_be_a_bean_of_spring() {
    let node = node();
    let manifest = pom("spring-context", "debian", "")
        .replace("<groupId>spring-context<", "<groupId>org.springframework<");
    let layer = self::build(&node.functions, "java", &manifest).await;
    let text = "import java.util.Map;
        import java.util.function.BiFunction;
        import org.springframework.context.annotation.Bean;
        public class HelloSpring {
            @Bean String greeting() { return \"Hello, \"; }
            @Bean BiFunction<Map<String, Object>, String, String> hello(String greeting) {
                return new BiFunction<Map<String, Object>, String, String>() {
                    public String apply(Map<String, Object> context, String name) {
                        return greeting + name;
                    }
                };
            }
        }";
    let id = node
        .load(with(&layer, revision("java", "HelloSpring.java", text)))
        .await;
    assert_eq!(node.output(&id, json!("Jon")).await, json!("Hello, Jon"));
    let done = node.call(&id, json!({"not": "a name"})).await;
    let kind = done.error.expect("it is none").kind;
    assert_eq!(kind, ErrorType::InputError);

    // No bean is a handler.
    let text = "public class None {
            @org.springframework.context.annotation.Bean String greeting() { return \"Hello\"; }
        }";
    let reason = node
        .reason(with(&layer, revision("java", "None.java", text)))
        .await;
    assert!(reason.contains("NoSuchBeanDefinitionException"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pom_that_cannot_be_resolved_says_what_maven_said() {
    let node = node();
    let said = fails(&node, "java", &spec(&pom("commons-io", "0.0.1", ""))).await;
    assert!(said.starts_with("mvn exited with 1:"), "{said}");
    assert!(said.contains("commons-io:jar:0.0.1"), "{said}");
    let said = fails(&node, "java", &spec("<project>")).await;
    assert!(said.starts_with("pom.xml: line 2: "), "{said}");
    let base = node
        .functions
        .base_image("java", "")
        .await
        .expect("there is Java");
    let nothing = node
        .functions
        .build_layer(&base, &spec("<project></project>"))
        .await;
    assert_eq!(nothing, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_goes_when_nothing_uses_it_and_comes_again_when_it_is_wanted() {
    let node = node_with(|config| config.images.grace = std::time::Duration::ZERO);
    let layer = build(&node.functions, "python3", "six==1.17.0\n").await;
    let there = || async { node.blobs.has(&layer.digest).await.expect("asked") };
    let used = Used {
        layers: [layer.digest.to_string()].into(),
        ..Used::default()
    };
    assert_eq!(node.functions.clear(used).await, Ok(0), "it is used");
    let text = "import six\ndef handle(c, p):\n    return six.__version__\n";
    let revision = with(&layer, revision("python3", "six_user.py", text));
    let id = node.load(revision.clone()).await;
    assert_eq!(
        node.functions.clear(Used::default()).await,
        Ok(0),
        "it is loaded"
    );
    assert_eq!(node.output(&id, Value::Null).await, json!("1.17.0"));
    node.functions.retire(&id);
    assert!(there().await);
    assert_eq!(node.functions.clear(Used::default()).await, Ok(1));
    assert!(!there().await);
    let reason = node.reason(revision.clone()).await;
    assert!(reason.contains("is nowhere"), "{reason}");
    // Built again it is the same; and it is shared again when another node removed it.
    assert_eq!(
        build(&node.functions, "python3", "six==1.17.0\n").await,
        layer
    );
    node.blobs.remove(&layer.digest).await.expect("removed");
    assert_eq!(
        build(&node.functions, "python3", "six==1.17.0\n").await,
        layer
    );
    assert!(there().await);
    assert_eq!(
        node.once(revision, Value::Null).await.output,
        json!("1.17.0")
    );
}
