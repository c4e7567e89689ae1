//! Who serves now: written by rollback when it flips to a standby agent and back, followed by the guardian.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use sanctum_config::Label;
use sanctum_config::record::{self, RecordError};

/// For each server that another agent may stand in for, the agent that serves in its place now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Active(BTreeMap<Label, Label>);

impl Active {
    /// Reads it; where there is no file, every server serves itself.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        record::read(path).map(Option::unwrap_or_default)
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        record::write(path, self)
    }

    /// The agent that serves in this server's place: the server itself unless a flip said otherwise.
    pub fn agent_for<'a>(&'a self, server: &'a Label) -> &'a Label {
        self.0.get(server).unwrap_or(server)
    }

    /// From now on `agent` serves in `server`'s place.
    pub fn set(&mut self, server: Label, agent: Label) {
        self.0.insert(server, agent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_serves_itself_until_a_flip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("active.json");
        let name = |text: &str| text.parse::<Label>().unwrap();
        let mut active = Active::read(&path).unwrap();
        assert_eq!(active.agent_for(&name("server")), &name("server"));
        active.set(name("server"), name("escape-hatch"));
        active.write(&path).unwrap();
        let active = Active::read(&path).unwrap();
        assert_eq!(active.agent_for(&name("server")), &name("escape-hatch"));
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\n  \"server\": \"escape-hatch\"\n}\n"
        );
    }
}
