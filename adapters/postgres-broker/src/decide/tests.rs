use axum::http::StatusCode;
use serde_json::json;

use super::binding::{Address, Bind, Unbind};
use super::instance::{Deprovision, HALTED, Provision, Update};
use super::poll::Poll;
use super::*;
use crate::config::Secret;
use crate::record::{
    BindingStage, Home, Instance, OperationKind, OperationState, Operations, Stage, Validity,
};

mod bindings;

const CATALOG: &str = "
services:
  - {name: s, id: s1, description: d, bindable: true, plan_updateable: true,
     bindings_retrievable: true, plans: [
      {name: shared, id: shared, description: d, backing: {kind: shared},
       maintenance_info: {version: 1.0.0}},
      {name: wide, id: wide, description: d, backing: {kind: shared, connections_max: 9},
       plan_updateable: false, binding_rotatable: true},
      {name: own, id: own, description: d, backing: {kind: dedicated}, bindable: false}]}
  - {name: t, id: t1, description: d, bindable: true, plans: [
      {name: p, id: blind, description: d, backing: {kind: shared}}]}
";

const NOW: i64 = 1_000_000;

fn catalog() -> Catalog {
    Catalog::parse(CATALOG, |_| true).unwrap()
}

fn context(catalog: &Catalog) -> Context<'_> {
    Context {
        catalog,
        operation: "op-new".to_owned(),
        now: NOW,
    }
}

fn provision_of(plan: &str) -> Provision {
    Provision {
        instance_id: "i".to_owned(),
        service_id: if plan == "blind" { "t1" } else { "s1" }.to_owned(),
        plan_id: plan.to_owned(),
        organization: "o".to_owned(),
        space: "p".to_owned(),
        parameters: Map::new(),
        maintenance_version: None,
        accepts_incomplete: true,
    }
}

fn bind_of(id: &str) -> Bind {
    Bind {
        binding_id: id.to_owned(),
        ids: PlanIds::default(),
        parameters: None,
        bind_resource: None,
        predecessor: None,
        accepts_incomplete: true,
    }
}

/// An instance as a create leaves it, in a stage of choice, whose operation is `op-old`.
fn instance(plan: &str, stage: Stage) -> Instance {
    let catalog = catalog();
    let ctx = Context {
        catalog: &catalog,
        operation: "op-old".to_owned(),
        now: NOW,
    };
    match instance::provision(ctx, None, provision_of(plan), Some(4000)).unwrap() {
        Verdict::Begin { record, .. } => Instance { stage, ..*record },
        other => panic!("{other:?}"),
    }
}

fn with_binding(plan: &str, stage: BindingStage) -> Instance {
    let mut record = instance(plan, Stage::Ready);
    match bind(&record, bind_of("b")).unwrap() {
        Verdict::Begin { record: bound, .. } => record = *bound,
        other => panic!("{other:?}"),
    }
    record.bindings.get_mut("b").unwrap().stage = stage;
    record
}

fn updating() -> Stage {
    Stage::Updating {
        to: instance("wide", Stage::Ready).spec,
    }
}

fn address() -> Address {
    Address {
        host: "h".to_owned(),
        port: 5,
    }
}

fn provision(record: &Instance, ask: Provision) -> Result<Verdict, Answer> {
    instance::provision(context(&catalog()), Some(record), ask, None)
}

fn update(record: &Instance, plan: Option<&str>, accepts: bool) -> Result<Verdict, Answer> {
    let ask = Update {
        service_id: "s1".to_owned(),
        plan_id: plan.map(str::to_owned),
        parameters: None,
        maintenance_version: None,
        accepts_incomplete: accepts,
    };
    instance::update(context(&catalog()), Some(record), ask)
}

fn deprovision(record: &Instance, accepts_incomplete: bool) -> Result<Verdict, Answer> {
    let ask = Deprovision {
        ids: PlanIds::default(),
        accepts_incomplete,
    };
    instance::deprovision(context(&catalog()), Some(record), &ask)
}

fn bind(record: &Instance, ask: Bind) -> Result<Verdict, Answer> {
    let password = Secret("fresh".to_owned());
    binding::bind(
        context(&catalog()),
        Some(record),
        ask,
        password,
        Some(&address()),
    )
}

fn unbind(record: &Instance, id: &str) -> Result<Verdict, Answer> {
    let ids = PlanIds::default();
    let ask = Unbind {
        binding_id: id.to_owned(),
        ids,
        accepts_incomplete: true,
    };
    binding::unbind(context(&catalog()), Some(record), &ask)
}

fn poll(record: &Instance, binding_id: Option<&str>, operation: Option<&str>) -> Answer {
    let ask = Poll {
        binding_id: binding_id.map(str::to_owned),
        ids: PlanIds::default(),
        operation: operation.map(str::to_owned),
    };
    poll::last_operation(Some(record), &ask, |_| None).unwrap_or_else(|refusal| refusal)
}

/// A verdict in a word: a status with its error word, or what begins or goes on.
fn word(verdict: Result<Verdict, Answer>) -> String {
    match verdict {
        Ok(Verdict::Begin { .. }) => "begin".to_owned(),
        Ok(Verdict::Join { operation, .. }) => format!("join {operation}"),
        Ok(Verdict::Answer(answer)) | Err(answer) => {
            let error = answer
                .body
                .get("error")
                .and_then(Value::as_str)
                .unwrap_or_default();
            format!("{} {error}", answer.status.as_u16())
                .trim()
                .to_owned()
        }
    }
}

#[test]
fn a_repeated_provision_is_answered_by_stage() {
    let cases = [
        (Stage::Creating, "join op-old"),
        (Stage::Ready, "200"),
        (Stage::CreateFailed, "begin"),
        (updating(), "422 ConcurrencyError"),
        (Stage::Deleting, "422 ConcurrencyError"),
        (Stage::DeleteFailed, "409 Conflict"),
        (Stage::Gone { since: 1 }, "begin"),
    ];
    for (stage, expected) in cases {
        let record = instance("shared", stage.clone());
        assert_eq!(
            word(provision(&record, provision_of("shared"))),
            expected,
            "{stage:?}"
        );
        let mut other = provision_of("shared");
        other.parameters.insert("x".to_owned(), json!(1));
        let conflicting = if record.is_gone() {
            "begin"
        } else {
            "409 Conflict"
        };
        assert_eq!(word(provision(&record, other)), conflicting, "{stage:?}");
    }
}

#[test]
fn each_attribute_makes_a_provision_another_one() {
    let record = instance("shared", Stage::Creating);
    let changes: [fn(&mut Provision); 3] = [
        |ask| ask.plan_id = "wide".to_owned(),
        |ask| ask.organization = "other".to_owned(),
        |ask| ask.space = "other".to_owned(),
    ];
    for change in changes {
        let mut ask = provision_of("shared");
        change(&mut ask);
        assert_eq!(word(provision(&record, ask)), "409 Conflict");
    }
}

#[test]
fn dedicated_plans_are_asynchronous_and_shared_ones_need_not_be() {
    let mut ask = provision_of("own");
    ask.accepts_incomplete = false;
    let catalog = catalog();
    let refused = instance::provision(context(&catalog), None, ask, Some(1));
    assert_eq!(word(refused), "422 AsyncRequired");
    assert_eq!(
        word(deprovision(&instance("own", Stage::Ready), false)),
        "422 AsyncRequired"
    );
    assert_eq!(
        word(deprovision(&instance("own", Stage::Ready), true)),
        "begin"
    );
    assert_eq!(
        word(deprovision(&instance("shared", Stage::Ready), false)),
        "begin"
    );
}

#[test]
fn a_maintenance_version_that_is_not_the_catalogs_conflicts() {
    let mut ask = provision_of("shared");
    ask.maintenance_version = Some("0.9.0".to_owned());
    let catalog = catalog();
    let verdict = instance::provision(context(&catalog), None, ask.clone(), None);
    assert_eq!(word(verdict), "422 MaintenanceInfoConflict");
    ask.maintenance_version = Some("1.0.0".to_owned());
    assert_eq!(
        word(instance::provision(context(&catalog), None, ask, None)),
        "begin"
    );
}

#[test]
fn a_delete_is_answered_by_stage() {
    let cases = [
        (Stage::Creating, "begin"),
        (Stage::Ready, "begin"),
        (Stage::CreateFailed, "begin"),
        (updating(), "422 ConcurrencyError"),
        (Stage::Deleting, "join op-old"),
        (Stage::DeleteFailed, "begin"),
        (Stage::Gone { since: 1 }, "410"),
    ];
    for (stage, expected) in cases {
        let record = instance("shared", stage.clone());
        assert_eq!(word(deprovision(&record, true)), expected, "{stage:?}");
    }
    let busy = with_binding("shared", BindingStage::Creating);
    assert_eq!(word(deprovision(&busy, true)), "422 ConcurrencyError");
    let bound = with_binding("shared", BindingStage::Ready);
    assert_eq!(word(deprovision(&bound, true)), "begin");
}

#[test]
fn a_delete_during_create_halts_the_create() {
    let verdict = deprovision(&instance("shared", Stage::Creating), true).unwrap();
    let Verdict::Begin {
        record, operation, ..
    } = verdict
    else {
        panic!("{verdict:?}")
    };
    assert_eq!(record.stage, Stage::Deleting);
    let halted = poll(&record, None, Some("op-old"));
    assert_eq!(halted.body["state"], "failed");
    assert_eq!(halted.body["description"], HALTED);
    assert_eq!(
        poll(&record, None, Some(&operation)).body["state"],
        "in progress"
    );
    assert_eq!(poll(&record, None, None).body["state"], "in progress");
}

#[test]
fn an_update_changes_the_plan_only_where_the_catalog_allows_it() {
    let ready = |plan| instance(plan, Stage::Ready);
    assert_eq!(word(update(&ready("shared"), Some("wide"), true)), "begin");
    assert_eq!(word(update(&ready("shared"), Some("shared"), true)), "200");
    assert_eq!(word(update(&ready("shared"), None, true)), "200");
    assert_eq!(
        word(update(&ready("wide"), Some("shared"), true)),
        "422 PlanChangeNotSupported"
    );
    assert_eq!(
        word(update(&ready("shared"), Some("own"), true)),
        "422 PlanChangeNotSupported"
    );
    assert_eq!(
        word(update(&ready("shared"), Some("none"), true)),
        "400 BadRequest"
    );
    assert_eq!(
        word(update(&instance("shared", updating()), None, true)),
        "422 ConcurrencyError"
    );
    let creating = instance("shared", Stage::Creating);
    assert_eq!(word(update(&creating, None, true)), "422 ConcurrencyError");
    let failed = instance("shared", Stage::CreateFailed);
    assert_eq!(word(update(&failed, None, true)), "422 InstanceUnusable");
}

#[test]
fn a_repeated_update_joins_the_running_one() {
    let Ok(Verdict::Begin {
        record, operation, ..
    }) = update(&instance("shared", Stage::Ready), Some("wide"), true)
    else {
        panic!("not begun")
    };
    assert_eq!(
        word(update(&record, Some("wide"), true)),
        format!("join {operation}")
    );
}

#[test]
fn parameters_without_an_update_schema_cannot_be_changed() {
    let ask = Update {
        service_id: "s1".to_owned(),
        plan_id: None,
        parameters: json!({ "x": 1 }).as_object().cloned(),
        maintenance_version: None,
        accepts_incomplete: true,
    };
    let catalog = catalog();
    let record = instance("shared", Stage::Ready);
    let verdict = instance::update(context(&catalog), Some(&record), ask);
    assert_eq!(word(verdict), "422 ParametersNotUpdateable");
}

#[test]
fn a_failed_update_leaves_the_old_plan_and_says_that_it_is_usable() {
    let record = instance("shared", updating());
    let failed = outcome::ended(record.clone(), None, Err("no".to_owned()), 7);
    assert_eq!(
        (failed.spec.plan_id.as_str(), &failed.stage),
        ("shared", &Stage::Ready)
    );
    let done = outcome::ended(record, None, Ok(()), 7);
    assert_eq!(
        (done.spec.plan_id.as_str(), &done.stage),
        ("wide", &Stage::Ready)
    );
}

#[test]
fn only_failed_updates_and_deprovisions_speak_of_usability() {
    for (kind, usable, repeatable) in [
        (OperationKind::Provision, None, None),
        (OperationKind::Update, Some(true), Some(true)),
        (OperationKind::Deprovision, Some(false), None),
    ] {
        let mut record = instance("shared", Stage::Ready);
        record.operations = Operations::begun("x".to_owned(), kind);
        record.operations.end(OperationState::Failed {
            description: "no".to_owned(),
        });
        let body = poll(&record, None, None).body;
        assert_eq!(
            body.get("instance_usable").and_then(Value::as_bool),
            usable,
            "{kind:?}"
        );
        assert_eq!(
            body.get("update_repeatable").and_then(Value::as_bool),
            repeatable,
            "{kind:?}"
        );
    }
}

#[test]
fn ids_that_are_sent_must_be_right() {
    let record = instance("shared", Stage::Ready);
    let ids = |service: &str, plan: &str| PlanIds {
        service_id: Some(service.to_owned()),
        plan_id: Some(plan.to_owned()),
    };
    assert!(ids("s1", "shared").check(&record).is_ok());
    assert!(ids("t1", "shared").check(&record).is_err());
    assert!(ids("s1", "wide").check(&record).is_err());
    let changing = instance("shared", updating());
    assert!(
        ids("s1", "shared").check(&changing).is_ok(),
        "the plan before the update"
    );
    assert!(ids("s1", "wide").check(&changing).is_ok());
}

#[test]
fn polls_of_what_is_gone_or_was_never_there_differ() {
    let gone = instance("shared", Stage::Gone { since: 1 });
    let mut deleted = gone.clone();
    deleted
        .operations
        .begin("op-delete".to_owned(), OperationKind::Deprovision);
    deleted.operations.end(OperationState::Succeeded);
    assert_eq!(
        poll(&deleted, None, Some("op-delete")).status,
        StatusCode::GONE
    );
    assert_eq!(poll(&deleted, None, None).status, StatusCode::GONE);
    assert_eq!(poll(&deleted, Some("b"), None).status, StatusCode::GONE);
    let ready = instance("shared", Stage::Ready);
    assert_eq!(poll(&ready, Some("b"), None).status, StatusCode::NOT_FOUND);
    assert_eq!(
        poll(&ready, None, Some("unknown")).status,
        StatusCode::BAD_REQUEST
    );
    let ask = Poll {
        binding_id: None,
        ids: PlanIds::default(),
        operation: None,
    };
    let absent = poll::last_operation(None, &ask, |_| None).unwrap_err();
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
}

#[test]
fn a_home_is_chosen_by_the_kind_of_the_plan() {
    assert_eq!(
        instance("own", Stage::Creating).home,
        Home::Dedicated { port: 4000 }
    );
    assert_eq!(instance("shared", Stage::Creating).home, Home::Shared);
}

#[test]
fn a_tombstone_keeps_no_secret() {
    let record = with_binding("shared", BindingStage::Deleting);
    let unbound = outcome::ended(record, Some("b"), Ok(()), 7);
    assert_eq!(unbound.bindings["b"].password, Secret(String::new()));
    let deleted = outcome::ended(
        Instance {
            stage: Stage::Deleting,
            ..unbound
        },
        None,
        Ok(()),
        8,
    );
    assert!(deleted.bindings.is_empty());
    assert_eq!(deleted.stage, Stage::Gone { since: 8 });
}

#[test]
fn a_failed_create_waits_for_its_delete_and_a_failed_delete_for_another_one() {
    let failed = instance("shared", Stage::DeleteFailed);
    assert_eq!(word(deprovision(&failed, true)), "begin");
    assert_eq!(
        word(update(&failed, Some("wide"), true)),
        "422 InstanceUnusable"
    );
    let unbound = with_binding("shared", BindingStage::DeleteFailed);
    assert_eq!(word(unbind(&unbound, "b")), "begin");
}

#[test]
fn the_result_of_an_operation_is_kept_when_others_follow() {
    let mut record = instance("shared", Stage::Ready);
    record.operations.end(OperationState::Failed {
        description: "first".to_owned(),
    });
    for number in 0..10 {
        record
            .operations
            .begin(format!("op-{number}"), OperationKind::Update);
        record.operations.end(OperationState::Succeeded);
    }
    assert_eq!(
        poll(&record, None, Some("op-old")).body["description"],
        "first"
    );
    assert_eq!(poll(&record, None, None).body["state"], "succeeded");
}
