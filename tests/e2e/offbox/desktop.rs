//! A desktop that records notifications: a private message bus with an `org.freedesktop.Notifications` service.
//!
//! Protocol: the Desktop Notifications Specification of freedesktop.org, version 1.2.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use tokio::runtime::Runtime;

use zbus::{Connection, OwnedVariant, connection, interface};

/// A recorded notification.
#[derive(Clone, Debug)]
pub(crate) struct Notification {
    pub title: String,
    pub body: String,
    pub sound: Option<String>,
    /// Whether it stays until it is dismissed.
    pub stays: bool,
    /// 2 is critical.
    pub urgency: Option<u8>,
}

/// The bus and the service on it.
pub(crate) struct Desktop {
    bus: Child,
    address: String,
    shown: Arc<Mutex<Vec<Notification>>>,
    /// Dropping these two ends the service.
    _service: Connection,
    _runtime: Runtime,
}

impl Desktop {
    /// Starts both. The bus's socket is in `folder`: a path is reachable from every network namespace.
    pub(crate) fn new(folder: &Path) -> Self {
        let address = format!("unix:path={}", folder.join("bus").display());
        let mut bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address"])
            .arg(format!("--address={address}"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon starts");
        // It prints its address when it listens.
        let mut line = String::new();
        let mut said = BufReader::new(bus.stdout.take().expect("it was asked for"));
        said.read_line(&mut line).unwrap();
        assert!(line.starts_with("unix:path="), "dbus-daemon said {line:?}");

        let shown = Arc::new(Mutex::new(Vec::new()));
        let service = NotificationService {
            shown: Arc::clone(&shown),
        };
        let runtime = Runtime::new().unwrap();
        let service = runtime.block_on(async {
            connection::Builder::address(address.as_str())
                .serve_at("/org/freedesktop/Notifications", service)
                .name("org.freedesktop.Notifications")
                .build()
                .await
                .expect("the bus takes the service")
        });
        Self {
            bus,
            address,
            shown,
            _service: service,
            _runtime: runtime,
        }
    }

    /// The `DBUS_SESSION_BUS_ADDRESS` of this desktop.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// All notifications, in order.
    pub(crate) fn shown(&self) -> Vec<Notification> {
        self.shown.lock().unwrap().clone()
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

struct NotificationService {
    shown: Arc<Mutex<Vec<Notification>>>,
}

#[interface(name = "org.freedesktop.Notifications")]
impl NotificationService {
    #[allow(
        clippy::too_many_arguments,
        reason = "the specification's own signature"
    )]
    fn notify(
        &self,
        _app_name: String,
        _replaces_id: u32,
        _app_icon: String,
        summary: String,
        body: String,
        _actions: Vec<String>,
        hints: HashMap<String, OwnedVariant>,
        expire_timeout: i32,
    ) -> u32 {
        let sound = hints
            .get("sound-name")
            .and_then(|value| <&str>::try_from(value).ok())
            .map(str::to_owned);
        let urgency = hints
            .get("urgency")
            .and_then(|value| u8::try_from(value).ok());
        let mut shown = self.shown.lock().unwrap();
        shown.push(Notification {
            urgency,
            title: summary,
            body,
            sound,
            stays: expire_timeout == 0,
        });
        u32::try_from(shown.len()).unwrap()
    }

    fn close_notification(&self, _id: u32) {}

    fn get_capabilities(&self) -> Vec<String> {
        ["body", "body-markup", "sound"].map(str::to_owned).to_vec()
    }

    fn get_server_information(&self) -> (String, String, String, String) {
        let [name, vendor, version, spec] = ["desktop", "test", "1", "1.2"].map(str::to_owned);
        (name, vendor, version, spec)
    }
}
