//! The JSON-Schema-Test-Suite, draft 2020-12: what a compiled schema accepts must be valid.
//!
//! The suite is in the source distribution of the PyPI package `jsonschema`, under `json/tests/draft2020-12`.
//! `SANCTUM_JSON_SCHEMA_SUITE` names that folder; `.ci/run` fetches it.

use std::fs;

use serde_json::Value;

use super::{answer, feed, grammars, schema};
use crate::{Constraint, Progress};

/// Whether a constraint accepts a value, written as compact JSON.
fn accepts(constraint: &mut Constraint, value: &Value) -> bool {
    match feed(constraint, &value.to_string()) {
        Some(Progress::Complete) => true,
        // A number could go on: it is complete if the sequence may end.
        Some(Progress::Continue) => constraint.may_end(),
        None => false,
    }
}

#[test]
fn test_suite_has_no_invalid_instance_accepted() {
    let Some(folder) = std::env::var_os("SANCTUM_JSON_SCHEMA_SUITE") else {
        let whole = std::env::var_os("SANCTUM_TESTS_WHOLE").is_some_and(|value| value == "1");
        let missing = "SANCTUM_JSON_SCHEMA_SUITE does not name the JSON-Schema-Test-Suite";
        assert!(!whole, "{missing}");
        eprintln!("skipped: {missing}");
        return;
    };
    let grammars = grammars();
    let (mut schemas, mut compiled, mut right, mut refused_valid) = (0, 0, 0, 0);
    let mut accepted_invalid = Vec::new();
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    files.sort();
    for file in files {
        let groups: Vec<Value> = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        for group in groups {
            schemas += 1;
            let rules = answer(schema(group["schema"].clone()));
            let Ok(Some(constraint)) = grammars.compile(&rules, false) else {
                continue;
            };
            compiled += 1;
            for case in group["tests"].as_array().unwrap() {
                let accepted = accepts(&mut constraint.clone(), &case["data"]);
                match (accepted, case["valid"] == true) {
                    (true, false) => accepted_invalid.push(format!(
                        "{}: {}: {}",
                        file.file_name().unwrap().display(),
                        group["description"],
                        case["description"]
                    )),
                    (false, true) => refused_valid += 1,
                    _ => right += 1,
                }
            }
        }
    }
    println!(
        "{schemas} schemas, {compiled} compiled; instances: {right} right, {refused_valid} valid ones refused, {} invalid ones accepted",
        accepted_invalid.len()
    );
    assert!(
        accepted_invalid.is_empty(),
        "{}",
        accepted_invalid.join("\n")
    );
    // A compiler that refuses everything accepts nothing invalid either.
    assert!(compiled > 140 && right > 500, "{compiled} {right}");
}
