//! The status of an instance and its reasons, as the engine tells them.

use engine_model::{OrgName, Status};

use super::Row;
use super::update::Stage;
use crate::Error;
use crate::table::Reader;
use crate::view::{Bindings, class, waits};

type Shown = (Status, Vec<String>);

impl Row {
    /// What people see of it, and why it is not ready.
    pub(crate) fn status(
        &self,
        reader: &Reader<'_>,
        org: &OrgName,
        name: &str,
    ) -> Result<Shown, Error> {
        match self.life.status() {
            Status::Initialized => {
                let waits = waits::of_instance(reader, org, &self.spec)?;
                Ok((Status::Initialized, waits.into_iter().collect()))
            }
            Status::Ready => self.made_status(reader, org, name),
            status => {
                let mut reasons = self.life.reasons();
                if self.life.is_underway() {
                    reasons.extend(waits::without_broker(reader, org, self)?);
                    let secrets = &self.spec.secret_parameters;
                    reasons.extend(waits::lost_secret(reader, org, &self.life, secrets)?);
                }
                Ok((status, reasons))
            }
        }
    }

    fn made_status(&self, reader: &Reader<'_>, org: &OrgName, name: &str) -> Result<Shown, Error> {
        let (updated, remarks) = self.update_status(reader, org)?;
        let (status, mut reasons) = if self.is_unbindable() {
            (Status::Ready, Vec::new())
        } else {
            self.bound_status(reader, org, name)?
        };
        let status = if status == Status::Ready {
            updated
        } else {
            status
        };
        reasons.extend(remarks);
        Ok((status, reasons))
    }

    fn bound_status(&self, reader: &Reader<'_>, org: &OrgName, name: &str) -> Result<Shown, Error> {
        let of_name = reader.get::<Bindings>(org, name)?;
        let Some(binding) = of_name.as_ref().filter(|row| row.instance == self.id) else {
            return Ok(match of_name {
                Some(_) => {
                    let text = format!(
                        "its binding cannot be made: a service binding of another instance is \
                         named {name}; delete that one"
                    );
                    (Status::Error, vec![text])
                }
                None => (Status::Creating, vec!["it is being bound".into()]),
            });
        };
        Ok(match binding.status(reader, org, name)? {
            (Status::Ready, _) => (Status::Ready, Vec::new()),
            (Status::Error, mut reasons) => {
                if let Some(first) = reasons.first_mut() {
                    *first = format!("binding: {first}");
                }
                (Status::Error, reasons)
            }
            (_, reasons) => {
                let why = waits::first(&reasons);
                (Status::Creating, vec![format!("it is being bound{why}")])
            }
        })
    }

    /// What an update that has not succeeded makes of the status, and what is to be said of it and
    /// of the plan.
    fn update_status(&self, reader: &Reader<'_>, org: &OrgName) -> Result<Shown, Error> {
        let mut remarks: Vec<String> = self.gone(reader, org)?.into_iter().collect();
        let Some(update) = &self.update else {
            return Ok((Status::Ready, remarks));
        };
        let status = match &update.stage {
            Stage::Proposed => {
                let missing = waits::secrets_stored(reader, org, &update.secrets)?;
                let why = missing.unwrap_or_else(|| {
                    "waits until the broker has nothing else of it in hand".to_owned()
                });
                remarks.insert(0, format!("the update {why}"));
                Status::Updating
            }
            Stage::Asked { operation, .. } => {
                remarks.extend(operation.remark());
                Status::Updating
            }
            Stage::Failed { reason, aftermath } => {
                let plan = &self.spec.service_plan;
                remarks.push(format!(
                    "the update failed: {reason}; plan {plan} and its parameters are as before"
                ));
                if aftermath.update_repeatable {
                    remarks.push("`dispatch retry` asks for the same update again".into());
                } else {
                    remarks.push("the broker wants the same update not to be repeated".into());
                }
                if aftermath.instance_usable {
                    Status::Ready
                } else {
                    let text = "the broker says that it cannot be used until another update \
                                repairs it, or it is deleted; nothing new is bound";
                    remarks.push(text.into());
                    Status::Error
                }
            }
        };
        Ok((status, remarks))
    }

    /// What is to be said of a class or a plan that the catalog has no more.
    fn gone(&self, reader: &Reader<'_>, org: &OrgName) -> Result<Option<String>, Error> {
        let (Some(class), Some(plan_id)) = (class::of_instance(reader, org, self)?, self.plan_id())
        else {
            return Ok(None);
        };
        let what = if class.withdrawn {
            format!("class {}", self.spec.service_class)
        } else if class.offering.plans.iter().all(|plan| plan.id != plan_id) {
            format!("plan {}", self.spec.service_plan)
        } else {
            return Ok(None);
        };
        Ok(Some(format!(
            "{what} is no longer offered; this instance can be used, updated and deleted"
        )))
    }
}
