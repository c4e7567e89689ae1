//! The deliveries that run, at most one for each channel. Each is a task, so that a channel that is slow delays neither
//! another channel nor the watchdog's checks.

use std::collections::HashMap;

use sanctum_config::Label;
use tokio::task::{Id, JoinSet};

use crate::alert::{Alert, Channel, DeliveryError};

/// The running deliveries. They are aborted when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    tasks: JoinSet<Result<(), DeliveryError>>,
    alerts: HashMap<Id, (Label, Alert)>,
}

/// A delivery that has ended.
#[derive(Debug)]
pub(crate) struct EndedDelivery {
    pub(super) channel: Label,
    pub(super) alert: Alert,
    pub(super) result: Result<(), DeliveryError>,
}

impl EndedDelivery {
    /// Whether a recipient has received the alert.
    pub(super) fn is_accepted(&self) -> bool {
        match &self.result {
            Ok(()) => true,
            Err(error) => error.is_partial,
        }
    }
}

impl Deliveries {
    /// Whether a delivery to this channel runs.
    pub(super) fn is_running(&self, channel: &Label) -> bool {
        self.alerts.values().any(|(name, _)| name == channel)
    }

    /// Whether none runs.
    pub(super) fn is_empty(&self) -> bool {
        self.alerts.is_empty()
    }

    /// Starts the delivery of an alert.
    pub(super) fn start(&mut self, name: &Label, channel: &Channel, alert: &Alert) {
        let (channel, delivered) = (channel.clone(), alert.clone());
        let task = self
            .tasks
            .spawn(async move { channel.deliver(&delivered).await });
        let alert = (name.clone(), alert.clone());
        self.alerts.insert(task.id(), alert);
    }

    /// Waits until a delivery has ended; for ever if none runs. Nothing is lost if this future is dropped.
    pub(super) async fn ended(&mut self) -> EndedDelivery {
        loop {
            let Some(joined) = self.tasks.join_next_with_id().await else {
                std::future::pending().await
            };
            let (id, result) = match joined {
                Ok((id, result)) => (id, result),
                Err(error) => {
                    let why = format!("the delivery failed: {error}");
                    let fix = "see this watchdog's log";
                    (error.id(), Err(DeliveryError::later(why, fix)))
                }
            };
            if let Some((channel, alert)) = self.alerts.remove(&id) {
                return EndedDelivery {
                    channel,
                    alert,
                    result,
                };
            }
        }
    }
}
