//! Beginning with a template.

use std::fs;

use harness::process::{Dispatch, repository};

#[test]
fn a_template_becomes_a_function_that_answers_its_own_input() {
    // The example of a pack has a template too, and no line of the program knows of it.
    let packs = repository().join("docs/examples/packs");
    let dispatch = Dispatch::up_as(&format!("worker: {{packs: {}}}\n", packs.display()));
    let all = dispatch.cli(&["templates", "--json"]).json();
    let all = all.as_array().expect("templates are a list");
    let names: Vec<&str> = all.iter().filter_map(|it| it["name"].as_str()).collect();
    for name in [
        "binary",
        "greeting",
        "java",
        "nodejs",
        "powershell",
        "python3",
    ] {
        assert!(names.contains(&name), "no {name} in {names:?}");
    }
    for template in all {
        let template = template["name"].as_str().expect("it has a name");
        let name = format!("from-{template}");
        let path = dispatch.scratch().join(&name).display().to_string();
        let words = [
            "create",
            "function",
            &name,
            &path,
            "--from-template",
            template,
        ];
        let _ = dispatch.cli(&words).ok();
        let function = dispatch.until("function", &name, |function| {
            function["status"] == "READY" || {
                let base = format!("{template}-base");
                dispatch.get("baseimage", &base)["status"] == "ERROR"
            }
        });
        if function["status"] != "READY" {
            let base = dispatch.get("baseimage", &format!("{template}-base"));
            harness::say(&format!("SKIPPED template {template}: {}", base["reason"]));
            continue;
        }
        let input = format!("@{path}/input.json");
        let expected = format!("@{path}/output.json");
        let words = ["test", &name, "--input", &input, "--expect", &expected];
        let tested = dispatch.cli(&words);
        assert_eq!(tested.code, 0, "{template}: {tested:?}");
        assert!(tested.err.contains("stdout | greeting Ada"), "{tested:?}");

        let again = dispatch.cli(&[
            "create",
            "function",
            "other",
            &path,
            "--from-template",
            template,
        ]);
        assert_eq!(again.code, 1, "{again:?}");
        assert!(again.err.contains("nothing was written"), "{again:?}");
    }
}

#[test]
fn an_unknown_template_writes_nothing_and_names_those_there_are() {
    let dispatch = Dispatch::up();
    let path = dispatch.scratch().join("f");
    let text = path.display().to_string();
    let words = ["create", "function", "f", &text, "--from-template", "cobol"];
    let refused = dispatch.cli(&words);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("python3"), "{refused:?}");
    assert!(fs::metadata(path).is_err(), "nothing was written");
}
