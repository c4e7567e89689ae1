//! Plans for a fleet with a server, its standby agent and two watchdogs.

use std::collections::BTreeMap;

use sanctum_config::Digest;
use sanctum_host::Receipt;
use sanctum_host::launchctl::Service;

use super::*;

const FLEET: &str = "[hosts.mini]\naddress = \"a\"\nagents = [\"server\", \"guardian\", \"parity\"]\n\
    [servers.server]\nhost = \"mini\"\nlisten = [\"127.0.0.1:0\"]\n\
    [agents.hatch]\nhost = \"mini\"\nprogram = [\"/bin/sleep\"]\nstandby_for = \"server\"\n\
    [watch.guardian]\n[watch.parity]\nat = \"0 3 * * *\"\nspec = \"parity.json\"\n";

/// The state of a release whose files contain its version.
fn state(version: &str, fleet: &str) -> HostState {
    let fleet = Fleet::parse(fleet, Path::new("fleet.toml")).unwrap();
    let artefact = |path: String, contents: &str, kind: ArtefactKind| Artefact {
        path: path.into(),
        sha256: Digest::of(contents.as_bytes()),
        mode: kind.mode(),
        kind,
    };
    let mut artefacts = vec![artefact("/h/parity.json".into(), "{}", ArtefactKind::Spec)];
    for program in ["sanctum-server", "sanctum-guardian", "sanctum-parity"] {
        let path = format!("/h/bin/{program}");
        artefacts.push(artefact(path, version, ArtefactKind::Binary));
    }
    let text = format!("{:?}", fleet.servers);
    artefacts.push(artefact("/h/fleet.toml".into(), &text, ArtefactKind::Fleet));
    let agents = ["server", "guardian", "parity", "hatch"];
    let agents = agents.map(|name| InstalledAgent {
        name: name.parse().unwrap(),
        label: name.into(),
        plist: format!("/p/{name}.plist").into(),
        enabled: name != "hatch",
    });
    let receipt = Receipt {
        host: "mini".parse().unwrap(),
        release: version.into(),
        previous: None,
        installed: "2026-04-18T03:00:00Z".into(),
        fleet_sha256: Digest::of(b""),
        artefacts,
        agents: agents.to_vec(),
    };
    HostState {
        arguments: BTreeMap::from([("server".to_owned(), vec!["serve".to_owned()])]),
        ..HostState::without_contents(receipt, fleet)
    }
}

/// A host in exactly this state.
fn actual(state: &HostState) -> ActualState {
    let loaded = state.receipt.agents.iter().filter(|agent| agent.enabled);
    let service = |agent: &InstalledAgent| Service {
        arguments: state
            .arguments
            .get(&agent.label)
            .cloned()
            .unwrap_or_default(),
        ..Service::default()
    };
    ActualState {
        files: (state.receipt.artefacts.iter())
            .map(|file| (file.path.clone(), (file.sha256, file.mode)))
            .collect(),
        services: loaded
            .map(|agent| (agent.label.clone(), service(agent)))
            .collect(),
        disabled: BTreeMap::from([("hatch".to_owned(), true)]),
        fleet: Some(state.fleet.clone()),
        active: state.active.clone(),
        stopped: BTreeSet::new(),
        exposed: Vec::new(),
    }
}

fn steps(actual: &ActualState, from: &HostState, to: &HostState) -> Vec<String> {
    let steps = plan(actual, Some(from), to);
    steps.iter().map(ToString::to_string).collect()
}

#[test]
fn plan_for_a_host_in_the_desired_state_is_empty() {
    let state = state("1", FLEET);
    assert_eq!(plan(&actual(&state), Some(&state), &state), []);
}

#[test]
fn plan_of_an_upgrade_stops_the_server_first_and_the_guardian_last() {
    let (from, to) = (state("1", FLEET), state("2", FLEET));
    let expected = [
        "bootout:server",
        "bootout:parity",
        "bootout:guardian",
        "switch",
        "bootstrap:guardian",
        "bootstrap:parity",
        "bootstrap:server",
    ];
    assert_eq!(steps(&actual(&from), &from, &to), expected);
}

#[test]
fn plan_of_an_interrupted_upgrade_has_only_the_steps_that_are_left() {
    let (from, to) = (state("1", FLEET), state("2", FLEET));
    let mut half_way = actual(&to);
    half_way.services.remove("server");
    half_way.services.remove("parity");
    let expected = ["bootstrap:parity", "bootstrap:server"];
    assert_eq!(steps(&half_way, &from, &to), expected);
}

#[test]
fn plan_restarts_a_server_with_other_arguments_and_the_reader_of_a_changed_spec() {
    let state = state("1", FLEET);
    let mut host = actual(&state);
    host.services.get_mut("server").unwrap().arguments = vec!["other".into()];
    let expected = ["bootout:server", "bootstrap:server"];
    assert_eq!(steps(&host, &state, &state), expected);
    let mut host = actual(&state);
    host.files.remove(Path::new("/h/parity.json"));
    let expected = ["bootout:parity", "switch", "bootstrap:parity"];
    assert_eq!(steps(&host, &state, &state), expected);
}

#[test]
fn plan_of_a_switch_to_the_standby_never_runs_both() {
    let from = state("1", FLEET);
    let to = from.clone().with_active(&"hatch".parse().unwrap()).unwrap();
    let expected = [
        "disable:server",
        "bootout:server",
        "active",
        "enable:hatch",
        "bootstrap:hatch",
    ];
    assert_eq!(steps(&actual(&from), &from, &to), expected);
}

#[test]
fn plan_of_an_uninstallation_removes_every_file_and_agent() {
    let from = state("1", FLEET);
    let to = HostState::nothing(&from.receipt.host);
    let mut host = actual(&from);
    host.exposed.push(("/h/secrets".into(), 0o700));
    let plan = plan(&host, Some(&from), &to);
    let Some(DeployStep::Switch(files)) = plan.get(3) else {
        panic!("{plan:?}");
    };
    assert_eq!(files.remove.len(), from.receipt.artefacts.len());
    assert_eq!(files.chmod, [("/h/secrets".into(), 0o700)]);
    assert_eq!(plan[4..], [DeployStep::Active(Active::default())]);
}

#[test]
fn agent_that_an_operator_has_stopped_stays_stopped() {
    let (from, to) = (state("1", FLEET), state("2", FLEET));
    let mut seen = actual(&from);
    seen.services.remove("server");
    seen.disabled.insert("server".to_owned(), true);
    seen.stopped.insert("server".parse().unwrap());
    let expected = [
        "bootout:parity",
        "bootout:guardian",
        "switch",
        "bootstrap:guardian",
        "bootstrap:parity",
    ];
    assert_eq!(steps(&seen, &from, &to), expected);
}
