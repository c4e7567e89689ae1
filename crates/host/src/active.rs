//! Which agent serves for each server. Rollback writes it when it switches to a standby agent and back; the guardian reads
//! it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use sanctum_config::Label;
use sanctum_config::record::{self, RecordError};

/// For each server with a standby agent, the agent that serves now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Active(BTreeMap<Label, Label>);

impl Active {
    /// Reads it. If there is no file, no standby agent serves.
    ///
    /// # Errors
    /// If the file cannot be read or does not parse.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        record::read(path).map(Option::unwrap_or_default)
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        record::write(path, self)
    }

    /// The agent that serves for this server: the server itself, or a standby agent.
    pub fn agent_for<'a>(&'a self, server: &'a Label) -> &'a Label {
        self.0.get(server).unwrap_or(server)
    }

    /// Records that `agent` serves for `server`.
    pub fn set(&mut self, server: Label, agent: Label) {
        self.0.insert(server, agent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standby_agent_serves_after_it_is_set() {
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
