//! The status of a binding and its reasons, as the engine tells them.

use engine_model::{OrgName, Status};

use super::Row;
use crate::Error;
use crate::table::Reader;
use crate::view::{Instances, waits};

type Shown = (Status, Vec<String>);

impl Row {
    /// What people see of it, and why it is not ready.
    pub(crate) fn status(
        &self,
        reader: &Reader<'_>,
        org: &OrgName,
        name: &str,
    ) -> Result<Shown, Error> {
        let owner = self.owner(name);
        let instance = reader
            .get::<Instances>(org, owner)?
            .filter(|instance| instance.id == self.instance);
        let life = &self.in_use.life;
        let secrets = &self.spec.secret_parameters;
        let (status, mut reasons) = match life.status() {
            Status::Initialized if instance.as_ref().is_some_and(|own| own.is_unbindable()) => {
                let text = format!(
                    "the plan of service instance {owner} cannot be bound; delete the service \
                     binding, or update the service instance to a plan that can"
                );
                return Ok((Status::Error, vec![text]));
            }
            Status::Initialized => {
                let waits = waits::of_binding(reader, org, owner, instance.as_ref(), secrets)?;
                (Status::Initialized, waits)
            }
            Status::Ready => self.rotation(),
            status => (status, life.reasons()),
        };
        if life.is_underway() {
            if let Some(instance) = &instance {
                reasons.extend(waits::without_broker(reader, org, instance)?);
            }
            reasons.extend(waits::lost_secret(reader, org, life, secrets)?);
        }
        Ok((status, reasons))
    }

    /// What is to be said of credentials that are there.
    fn rotation(&self) -> Shown {
        let mut remarks = Vec::new();
        let expires_at = self.in_use.given.expires_at;
        if let Some(turnover) = &self.turnover {
            if turnover.next.is_some() {
                let text = "new credentials are being asked for; the present ones are used";
                remarks.push(text.into());
            }
            if let Some(failed) = &turnover.failed {
                let until = expires_at.map_or_else(String::new, |at| {
                    format!("; the present ones expire at {at}")
                });
                remarks.push(format!(
                    "new credentials could not be had ({} times): {}; tried again at {}{until}",
                    failed.failures, failed.reason, failed.next_at
                ));
            }
            for replaced in &turnover.replaced {
                remarks.push(match replaced.lived.life.remark() {
                    Some(remark) => format!("replaced credentials are being unbound: {remark}"),
                    None => format!(
                        "replaced credentials are unbound when no run uses them, after {}",
                        replaced.drained_at
                    ),
                });
            }
        }
        if expires_at.is_some_and(|at| at <= self.changed) {
            remarks.insert(0, "the credentials have expired".into());
            return (Status::Error, remarks);
        }
        (Status::Ready, remarks)
    }
}
