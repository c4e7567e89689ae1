//! The text that `init` writes, and answers that make none.

use super::*;
use crate::fleet_notes::fleet_notes;

fn new() -> NewFleet {
    NewFleet {
        serving: "mini=192.0.2.25".parse().unwrap(),
        watching: None,
        model: None,
        standby: None,
        alert: AlertChannel::Desktop,
    }
}

/// The notes of `check` about it.
fn notes(fleet: &NewFleet) -> Vec<String> {
    let text = fleet.text().unwrap();
    let file = Path::new("/x/fleet.toml");
    let parsed = Fleet::parse(&text, file).unwrap();
    fleet_notes(&parsed, file, None)
}

#[test]
fn every_kind_of_fleet_is_valid_and_has_no_notes() {
    let watching = Some("laptop=laptop.example.net".parse().unwrap());
    let all = [
        new(),
        NewFleet {
            watching: watching.clone(),
            ..new()
        },
        NewFleet {
            serving: "mini=fd00::25".parse().unwrap(),
            watching,
            model: Some("~/models/a \"b\"".into()),
            standby: Some("/usr/local/bin/mlx_lm.server --port 1337".parse().unwrap()),
            alert: "https://192.0.2.7/notify".parse().unwrap(),
        },
        NewFleet {
            alert: AlertChannel::Log,
            ..new()
        },
    ];
    for fleet in &all {
        assert_eq!(
            notes(fleet),
            Vec::<String>::new(),
            "{}",
            fleet.text().unwrap()
        );
    }
    let text = all[2].text().unwrap();
    assert!(
        text.contains("tls_listen = [\"[fd00::25]:1338\"]"),
        "{text}"
    );
    assert!(text.contains(r#"path = "~/models/a \"b\"""#), "{text}");
    assert!(text.contains("id = \"model\""), "{text}");
    assert!(text.contains("standby_for = \"server\""), "{text}");
}

#[test]
fn secret_address_is_in_a_file_and_in_no_error() {
    for (url, key) in [
        ("https://hooks.slack.com/services/T/SECRET", "template = "),
        ("https://ntfy.sh/SECRET", "kind = \"ntfy\""),
        ("https://ada:SECRET@192.0.2.7/notify", ""),
    ] {
        let fleet = NewFleet {
            alert: url.parse().unwrap(),
            ..new()
        };
        let text = fleet.text().unwrap();
        assert!(
            text.contains("url_file = \"~/.sanctum/secrets/receiver.url\"\n"),
            "{text}"
        );
        assert!(text.contains(key) && !text.contains("SECRET"), "{text}");
        assert_eq!(fleet.secret().unwrap().address(), url);
    }
    // No topic, and no URL at all.
    for (url, why) in [
        ("https://ntfy.sh/SE/CR.ET", "does not end with a topic"),
        ("https://hooks.slack.com:port/SECRET", "\"ADDRESS\" is not"),
    ] {
        let fleet = NewFleet {
            alert: url.parse().unwrap(),
            ..new()
        };
        let error = fleet.text().unwrap_err();
        assert!(error.contains(why), "{error}");
        assert!(!error.contains("SE"), "{error}");
    }
    let plain = NewFleet {
        alert: "http://127.0.0.1:4077/notify".parse().unwrap(),
        ..new()
    };
    assert!(plain.secret().is_none());
}

#[test]
fn answers_that_make_no_fleet_are_errors_with_an_example() {
    for (bad, part) in [
        ("mini", "mini=192.0.2.25"),
        ("a b=192.0.2.1", "is not a label"),
        ("mini=", "is not an address"),
        ("mini=a\"b", "is not an address"),
    ] {
        let error = bad.parse::<NewHost>().unwrap_err();
        assert!(error.contains(part), "{bad}: {error}");
    }
    assert!("mail".parse::<AlertChannel>().is_err());
    assert!("https://a\x1b".parse::<AlertChannel>().is_err());
    let relative = "mlx_lm.server".parse::<StandbyProgram>();
    assert!(relative.unwrap_err().contains("absolute path"));
    let same = NewFleet {
        watching: Some("mini=192.0.2.26".parse().unwrap()),
        ..new()
    };
    assert!(same.text().unwrap_err().contains("name another host"));
}
