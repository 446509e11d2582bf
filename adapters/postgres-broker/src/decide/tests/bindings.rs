//! Binds and unbinds, and what a binding says.

use super::*;

#[test]
fn a_bind_is_answered_by_the_stage_of_the_instance() {
    let cases = [
        (Stage::Creating, "422 ConcurrencyError"),
        (Stage::Ready, "begin"),
        (Stage::CreateFailed, "422 InstanceUnusable"),
        (updating(), "422 ConcurrencyError"),
        (Stage::Deleting, "422 ConcurrencyError"),
        (Stage::DeleteFailed, "422 InstanceUnusable"),
        (Stage::Gone { since: 1 }, "404 NotFound"),
    ];
    for (stage, expected) in cases {
        let record = instance("shared", stage.clone());
        assert_eq!(word(bind(&record, bind_of("b"))), expected, "{stage:?}");
    }
}

#[test]
fn a_repeated_bind_and_an_unbind_are_answered_by_the_stage_of_the_binding() {
    let cases = [
        (BindingStage::Creating, "join op-new", "begin"),
        (BindingStage::Ready, "200", "begin"),
        (BindingStage::CreateFailed, "begin", "begin"),
        (
            BindingStage::Deleting,
            "422 ConcurrencyError",
            "join op-new",
        ),
        (BindingStage::DeleteFailed, "409 Conflict", "begin"),
        (BindingStage::Gone { since: 1 }, "begin", "410"),
    ];
    for (stage, on_bind, on_unbind) in cases {
        let record = with_binding("shared", stage);
        assert_eq!(word(bind(&record, bind_of("b"))), on_bind, "{stage:?}");
        assert_eq!(word(unbind(&record, "b")), on_unbind, "{stage:?}");
        let mut other = bind_of("b");
        other.parameters = json!({ "x": 1 }).as_object().cloned();
        let gone = matches!(stage, BindingStage::Gone { .. });
        assert_eq!(
            word(bind(&record, other)),
            if gone { "begin" } else { "409 Conflict" }
        );
    }
    assert_eq!(word(unbind(&instance("shared", Stage::Ready), "b")), "410");
}

#[test]
fn a_repeated_bind_gives_the_same_credentials_as_texts() {
    let record = with_binding("shared", BindingStage::Ready);
    let Ok(Verdict::Answer(answer)) = bind(&record, bind_of("b")) else {
        panic!("not answered")
    };
    let credentials = answer.body["credentials"].as_object().unwrap();
    let mut names: Vec<_> = credentials.keys().map(String::as_str).collect();
    names.sort_unstable();
    let expected = [
        "database",
        "host",
        "password",
        "port",
        "sslRequired",
        "tags",
        "uri",
        "username",
    ];
    assert_eq!(names, expected);
    assert!(credentials.values().all(Value::is_string));
    assert_eq!(credentials["password"], "fresh");
    assert_eq!(credentials["tags"], r#"["postgresql"]"#);
}

#[test]
fn a_rotation_needs_a_live_predecessor_and_a_plan_that_allows_it() {
    let rotate = |record: &Instance, predecessor: &str| {
        let mut ask = bind_of("new");
        ask.predecessor = Some(predecessor.to_owned());
        word(bind(record, ask))
    };
    assert_eq!(
        rotate(&with_binding("wide", BindingStage::Ready), "b"),
        "begin"
    );
    assert_eq!(
        rotate(&with_binding("wide", BindingStage::Ready), "x"),
        "400 BadRequest"
    );
    let gone = with_binding("wide", BindingStage::Gone { since: 1 });
    assert_eq!(rotate(&gone, "b"), "400 BadRequest");
    assert_eq!(
        rotate(&with_binding("shared", BindingStage::Ready), "b"),
        "400 BadRequest"
    );
}

#[test]
fn plans_that_are_not_bindable_or_not_retrievable_are_bound_accordingly() {
    assert_eq!(
        word(bind(&instance("own", Stage::Ready), bind_of("b"))),
        "400 BadRequest"
    );
    let Ok(Verdict::Begin { reply, .. }) = bind(&instance("blind", Stage::Ready), bind_of("b"))
    else {
        panic!("not begun")
    };
    assert_eq!(
        reply,
        Reply::AtEnd,
        "credentials that cannot be fetched come with the answer"
    );
}

#[test]
fn a_binding_that_expires_says_until_when_as_the_specification_writes_it() {
    let mut record = with_binding("shared", BindingStage::Ready);
    let binding = record.bindings.get_mut("b").unwrap();
    binding.validity = Some(Validity::starting(0, 86_400));
    let Ok(Verdict::Answer(answer)) = bind(&record, bind_of("b")) else {
        panic!("not answered")
    };
    let expected = json!({
        "expires_at": "1970-01-02T00:00:00.0Z", "renew_before": "1970-01-01T16:00:00.0Z",
    });
    assert_eq!(answer.body["metadata"], expected);
}

#[test]
fn the_parameters_of_a_bind_must_fit_the_schema_of_the_plan() {
    let schema = "{$schema: 'http://json-schema.org/draft-07/schema#', type: object, \
                  properties: {role: {enum: [reader]}}, additionalProperties: false}";
    let with_schema = CATALOG.replace(
        "backing: {kind: shared},\n       maintenance_info",
        &format!(
            "backing: {{kind: shared}}, schemas: {{service_binding: {{create: {{parameters: \
             {schema}}}}}}},\n       maintenance_info"
        ),
    );
    let catalog = Catalog::parse(&with_schema, |_| true).unwrap();
    let record = instance("shared", Stage::Ready);
    for (parameters, expected) in [
        (json!({ "role": "hunter2" }), "400 ParametersInvalid"),
        (json!({ "other": 1 }), "400 ParametersInvalid"),
        (json!({ "role": "reader" }), "begin"),
        (json!({}), "begin"),
    ] {
        let mut ask = bind_of("b");
        ask.parameters = parameters.as_object().cloned();
        let verdict = binding::bind(
            context(&catalog),
            Some(&record),
            ask,
            Secret("fresh".to_owned()),
            Some(&address()),
        );
        assert!(!format!("{verdict:?}").contains("hunter2"));
        assert_eq!(word(verdict), expected, "{parameters}");
    }
}
