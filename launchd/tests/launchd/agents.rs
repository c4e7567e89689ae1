//! `stop`, `start` and `restart` beside each other.

use crate::host::{Host, executable};

#[test]
fn restart_of_an_agent_that_was_stopped_meanwhile_names_the_command_that_loads_it() {
    let host = Host::new();
    host.install("1").ok();
    // The agent is unloaded as soon as it was seen.
    let racing = host.at("racing");
    let script = format!(
        "#!/bin/sh\n'{}' \"$@\"\ncode=$?\n[ \"$1\" = print ] && rm -f \"$LAUNCHD/loaded/com.sanctum.server\"\nexit $code\n",
        host.at("launchctl").display()
    );
    executable(&racing, &script);
    let racing = racing.display().to_string();
    let said = host.run_with(&["restart", "server"], &[("SANCTUM_LAUNCHCTL", &racing)]);
    let said = said.fails(1);
    assert!(said.contains("sanctum-launchd start server"), "{said}");
}
