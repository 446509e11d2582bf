use super::*;

const EXAMPLE: &str = include_str!("../../../../docs/examples/azure-catalog.yaml");

fn example() -> Catalog {
    Catalog::parse(EXAMPLE, |_| true).unwrap()
}

fn basic50(catalog: &Catalog) -> &Plan {
    catalog
        .plan(
            "25434f16-d762-41c7-bbdd-8045d7f74ca6",
            "b2ed210f-6a10-4593-a6c4-964e6b6fad62",
        )
        .unwrap()
}

fn judge(parameters: &str) -> Option<String> {
    let document: Value = serde_json::from_str(parameters).unwrap();
    violations(
        basic50(&example()).create.as_ref(),
        document.as_object().unwrap(),
    )
}

#[test]
fn the_private_part_of_a_plan_is_not_published() {
    let body = String::from_utf8(example().body.to_vec()).unwrap();
    assert!(body.contains("azure-postgresql") && body.contains("basic100"));
    assert!(!body.contains("backing") && !body.contains("shared_buffers\""));
}

#[test]
fn the_story_is_accepted() {
    let story = r#"{"location":"westus","resourceGroup":"demo","firewallRules":[
        {"startIPAddress":"0.0.0.0","endIPAddress":"255.255.255.255","name":"AllowAll"}]}"#;
    assert_eq!(judge(story), None);
    assert_eq!(judge("{}"), None);
}

#[test]
fn nonsense_is_rejected_without_repeating_its_values() {
    for bad in [
        r#"{"location":7777777}"#,
        r#"{"colour":"red"}"#,
        r#"{"firewallRules":[{"name":"x","startIPAddress":"256.0.0.1","endIPAddress":"1.1.1.1"}]}"#,
        r#"{"firewallRules":{"name":"x"}}"#,
        r#"{"resourceGroup":""}"#,
    ] {
        let problem = judge(bad).unwrap_or_else(|| panic!("{bad} was accepted"));
        assert!(
            !problem.contains("7777777") && !problem.contains("256.0"),
            "{problem}"
        );
    }
}

#[test]
fn plans_that_cannot_be_served_are_left_out_with_their_offering() {
    let catalog = Catalog::parse(EXAMPLE, |backing| {
        matches!(backing, Backing::Dedicated { .. })
    })
    .unwrap();
    let body: Value = serde_json::from_slice(&catalog.body).unwrap();
    assert_eq!(body["services"].as_array().unwrap().len(), 1);
    assert!(
        catalog
            .plan(
                "0f4c6b1e-3a52-4d0e-9a3b-6d1f0c6f5e21",
                "7c1de0a4-95b6-4c33-8f0e-2b7a4e9d8c15"
            )
            .is_none()
    );
}

#[test]
fn each_broken_rule_is_named() {
    let plan = "{name: p, id: p1, description: d, backing: {kind: shared}}";
    let with = |service: &str| format!("services: [{service}]");
    let offering = |plans: &str| {
        with(&format!(
            "{{name: s, id: s1, description: d, bindable: true, plans: [{plans}]}}"
        ))
    };
    let schema = |schema: &str| {
        offering(&format!(
            "{{name: p, id: p1, description: d, backing: {{kind: shared}}, schemas: \
             {{service_instance: {{create: {{parameters: {schema}}}}}}}}}"
        ))
    };
    let backing = |field: &str| {
        offering(&format!(
            "{{name: p, id: p1, description: d, backing: {{kind: shared, {field}}}}}"
        ))
    };
    let version = |version: &str| {
        offering(&format!(
            "{{name: p, id: p1, description: d, backing: {{kind: shared}}, \
             maintenance_info: {{version: {version}}}}}"
        ))
    };
    for (yaml, expected) in [
        ("{}".to_owned(), "`services`"),
        (with("{id: s1}"), "`name`"),
        (
            with(&format!(
                "{{name: s, id: s1, description: d, plans: [{plan}]}}"
            )),
            "`bindable`",
        ),
        (offering(""), "at least one plan"),
        (offering(&format!("{plan}, {plan}")), "name is used twice"),
        (
            offering("{name: p, id: s1, description: d, backing: {kind: shared}}"),
            "id is used twice",
        ),
        (offering("{name: p, id: p1, description: d}"), "`backing`"),
        (
            offering("{name: p, id: p1, description: d, backing: {kind: cloud}}"),
            "cloud",
        ),
        (
            offering(
                "{name: p, id: p1, description: d, backing: {kind: dedicated, settings: {'a b': 1}}}",
            ),
            "a b",
        ),
        (
            backing("extensions: ['x\"; DROP']"),
            "no name of an extension",
        ),
        (
            backing("credential_lifetime: soon"),
            "`credential_lifetime`",
        ),
        (backing("storage: 5"), "`storage`"),
        (version("'1.0'"), "not like 1.2.3"),
        (version("1.0.0-01"), "not like 1.2.3"),
        (version("v1.0.0"), "not like 1.2.3"),
        (
            offering("{name: a plan, id: p1, description: d, backing: {kind: shared}}"),
            "command line",
        ),
        (
            offering("{name: p, id: 'p 1', description: d, backing: {kind: shared}}"),
            "part of a URL",
        ),
        (
            with(&format!(
                "{{name: s, id: s1, description: d, bindable: true, requires: [syslog_drain], \
                 plans: [{plan}]}}"
            )),
            "`requires`",
        ),
        (
            schema("{$schema: 'http://json-schema.org/draft-07/schema#', type: string}"),
            "an object",
        ),
        (
            schema(&format!(
                "{{$schema: 'http://json-schema.org/draft-07/schema#', description: {}}}",
                "x".repeat(64_000)
            )),
            "64 kB",
        ),
        (schema("{type: object}"), "`$schema`"),
        (
            schema(
                "{$schema: 'http://json-schema.org/draft-07/schema#', $ref: 'http://example.com/x'}",
            ),
            "outside itself",
        ),
    ] {
        let error = Catalog::parse(&yaml, |_| true)
            .expect_err(&yaml)
            .to_string();
        assert!(error.contains(expected), "{yaml}: {error}");
    }
}

#[test]
fn versions_of_semantic_versioning_are_accepted() {
    for good in [
        "0.0.0",
        "1.2.3",
        "10.20.30-alpha.1",
        "1.0.0-a-b",
        "1.0.0+b-1.2",
        "1.0.0-0",
    ] {
        assert!(is_semantic(good), "{good}");
    }
    for bad in [
        "1",
        "1.2",
        "1.2.3.4",
        "01.2.3",
        "1.2.3-",
        "1.2.3+",
        "1.2.x",
        "1.2.3-a..b",
    ] {
        assert!(!is_semantic(bad), "{bad}");
    }
}

#[test]
fn what_a_plan_says_of_itself_is_not_written_over() {
    let yaml = "services: [{name: s, id: s1, description: d, bindable: true, plans: [{name: p, \
        id: p1, description: d, metadata: {storage: mine}, backing: {kind: shared, \
        connections_max: 3, storage: theirs}}]}]";
    let catalog = Catalog::parse(yaml, |_| true).unwrap();
    let body: Value = serde_json::from_slice(&catalog.body).unwrap();
    let metadata = &body["services"][0]["plans"][0]["metadata"];
    assert_eq!(
        metadata,
        &serde_json::json!({ "storage": "mine", "connections": 3 })
    );
}
