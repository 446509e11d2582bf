//! Takes one step with a broker, waits until it is done, and prints what came of it as JSON.
//!
//! `foreign-client catalog | provision I | fetch I | update I PLAN | bind I B | rotate I B OLD |
//! fetch-binding I B | unbind I B | deprovision I`, with the broker in the environment.

use std::time::Duration;

use rocl::apis::configuration::Configuration;
use rocl::apis::{catalog_api as catalog, service_bindings_api as bindings};
use rocl::apis::{service_instances_api as instances, Error};
use rocl::models::last_operation_resource::State;
use rocl::models::{
    LastOperationResource, ServiceBindingRequest, ServiceInstanceProvisionRequestBody,
    ServiceInstanceUpdateRequestBody,
};
use serde_json::{json, to_value, Value};

const VERSION: &str = "2.17";
const LATER: Option<bool> = Some(true);

type Failed = Box<dyn std::error::Error>;

/// The broker, and what is asked of it.
struct Client {
    configuration: Configuration,
    service: String,
    plan: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let password = std::env::var("BROKER_PASSWORD")?;
    let client = Client {
        configuration: Configuration {
            base_path: std::env::var("BROKER_URL")?,
            basic_auth: Some((std::env::var("BROKER_USERNAME")?, Some(password))),
            ..Configuration::new()
        },
        service: std::env::var("BROKER_SERVICE")?,
        plan: std::env::var("BROKER_PLAN")?,
    };
    println!("{}", client.step(&words).await?);
    Ok(())
}

impl Client {
    async fn step(&self, words: &[&str]) -> Result<Value, Failed> {
        let on = &self.configuration;
        match *words {
            ["catalog"] => Ok(to_value(catalog::catalog_get(on, VERSION).await?)?),
            ["provision", id] => {
                let body = ServiceInstanceProvisionRequestBody::new(
                    self.service.clone(),
                    self.plan.clone(),
                    "organization".to_owned(),
                    "space".to_owned(),
                );
                instances::service_instance_provision(on, VERSION, id, body, None, LATER).await?;
                self.wait(id, None).await
            }
            ["fetch", id] => {
                let fetched =
                    instances::service_instance_get(on, VERSION, id, None, None, None).await?;
                Ok(to_value(fetched)?)
            }
            ["update", id, plan] => {
                let mut body = ServiceInstanceUpdateRequestBody::new(self.service.clone());
                body.plan_id = Some(plan.to_owned());
                instances::service_instance_update(on, VERSION, id, body, None, LATER).await?;
                self.wait(id, None).await
            }
            ["bind", id, binding] => self.bind(id, binding, None).await,
            ["rotate", id, binding, old] => self.bind(id, binding, Some(old)).await,
            ["fetch-binding", id, binding] => {
                let fetched =
                    bindings::service_binding_get(on, VERSION, id, binding, None, None, None)
                        .await?;
                Ok(to_value(fetched)?)
            }
            ["unbind", id, binding] => {
                let (service, plan) = (&self.service, &self.plan);
                bindings::service_binding_unbinding(
                    on, VERSION, id, binding, service, plan, None, LATER,
                )
                .await?;
                self.wait(id, Some(binding)).await
            }
            ["deprovision", id] => {
                let (service, plan) = (&self.service, &self.plan);
                instances::service_instance_deprovision(
                    on, VERSION, id, service, plan, None, LATER,
                )
                .await?;
                self.wait(id, None).await
            }
            _ => Err("unknown step".into()),
        }
    }

    async fn bind(&self, id: &str, binding: &str, old: Option<&str>) -> Result<Value, Failed> {
        let mut body = ServiceBindingRequest::new(self.service.clone(), self.plan.clone());
        body.predecessor_binding_id = old.map(str::to_owned);
        let on = &self.configuration;
        bindings::service_binding_binding(on, VERSION, id, binding, body, None, LATER).await?;
        self.wait(id, Some(binding)).await
    }

    /// Polls the last operation to its end. Of what is gone there is nothing to poll.
    async fn wait(&self, id: &str, binding: Option<&str>) -> Result<Value, Failed> {
        for _ in 0..6_000 {
            let Some(polled) = self.poll(id, binding).await? else {
                return Ok(json!("gone"));
            };
            match polled.state {
                State::InProgress => tokio::time::sleep(Duration::from_millis(10)).await,
                State::Succeeded => return Ok(json!("succeeded")),
                State::Failed => return Err(format!("{:?}", polled.description).into()),
            }
        }
        Err("not ended in time".into())
    }

    async fn poll(
        &self,
        id: &str,
        binding: Option<&str>,
    ) -> Result<Option<LastOperationResource>, Failed> {
        let on = &self.configuration;
        match binding {
            None => {
                let polled = instances::service_instance_last_operation_get(
                    on, VERSION, id, None, None, None,
                );
                unless_gone(polled.await)
            }
            Some(binding) => {
                let polled = bindings::service_binding_last_operation_get(
                    on, VERSION, id, binding, None, None, None,
                );
                unless_gone(polled.await)
            }
        }
    }
}

fn unless_gone<T: std::fmt::Debug + 'static>(
    polled: Result<LastOperationResource, Error<T>>,
) -> Result<Option<LastOperationResource>, Failed> {
    match polled {
        Ok(polled) => Ok(Some(polled)),
        Err(Error::ResponseError(answer)) if answer.status.as_u16() == 410 => Ok(None),
        Err(error) => Err(error.into()),
    }
}
