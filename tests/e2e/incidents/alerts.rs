//! No alert could be delivered: the channel was down for the whole outage, and the watchdog for a part of it.

use std::collections::BTreeSet;

use crate::host::{SOON, label, runs};
use crate::receiver::{Receiver, field};

#[test]
fn alerts_of_an_outage_are_delivered_in_order_after_the_channel_was_down() {
    let phone = Receiver::new();
    let host = phone.host_with_canary();

    phone.set_down(true);
    // Booted out: nothing listens, which the canary notices at once.
    let outage = || {
        let server = host.target("server");
        host.launchd.run(&["bootout", &server]).unwrap();
        host.wait("misses", |host| {
            host.memory("canary")["open"]["misses"].is_object()
        });
    };
    let end = || {
        let gone = |all: &[_]| !runs(all, "server");
        host.launchd.wait(SOON, gone).unwrap();
        let plist = host.path("Library/LaunchAgents/com.sanctum.server.plist");
        let line = ["bootstrap", &host.launchd.domain(), plist.to_str().unwrap()];
        assert_eq!(host.launchd.run(&line).unwrap().code, 0);
        host.all_well(&["canary"]);
    };
    outage();
    // The watchdog is killed during the outage, with its alert on disk.
    host.wait("a first attempt", |_| !phone.refused().is_empty());
    let before = host.running("canary");
    host.signal("canary", "SIGKILL");
    host.launchd
        .wait_for(&label("canary"), SOON, |s| {
            s.pid.is_some() && s.pid != before.pid
        })
        .unwrap();
    host.wait("a second attempt", |_| phone.refused().len() >= 2);
    end();
    outage();
    end();
    assert!(phone.taken().is_empty());

    phone.set_down(false);
    phone.wait("recovered", 2);
    let taken = phone.taken();
    let titles: Vec<String> = taken.iter().map(|alert| field(alert, "title")).collect();
    let fails = "server on here fails its check";
    let recovered = format!("recovered: {fails}");
    assert_eq!(titles, [fails, &recovered, fails, &recovered]);
    // Each once, with its first id, in the order in which it was raised.
    let ids: Vec<String> = taken.iter().map(|alert| field(alert, "id")).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 4, "{ids:?}");
    assert_eq!(ids[1], format!("{}-recovered", ids[0]));
    assert_eq!(ids[3], format!("{}-recovered", ids[2]));
    assert!(
        phone
            .refused()
            .iter()
            .all(|alert| field(alert, "id") == ids[0])
    );
    let times: Vec<String> = taken.iter().map(|alert| field(alert, "time")).collect();
    assert!(times.is_sorted(), "{times:?}");
    host.wait("an empty spool", |host| {
        let spool = std::fs::read_dir(host.path(".sanctum/state/spool/canary"));
        spool.is_ok_and(|mut left| left.next().is_none())
    });
}
