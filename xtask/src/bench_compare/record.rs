//! The file of rows, one JSON object a line: docs/performance.jsonl.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::error::CompareError;
use super::row::BenchRow;
use crate::error::StepError;

/// The rows of a file; none if it does not exist.
///
/// # Errors
/// If it cannot be read, or a line is not a row.
pub(super) fn read(file: &Path) -> Result<Vec<BenchRow>, CompareError> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(StepError::file(file))?,
    };
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let row = serde_json::from_str(line).map_err(|why| CompareError::Row {
            file: file.to_owned(),
            line: index + 1,
            why,
        })?;
        rows.push(row);
    }
    Ok(rows)
}

/// Puts the rows of a run in the place of those of an earlier run on the same machine with the same shape, or at the end.
pub(super) fn replace(rows: &mut Vec<BenchRow>, run: Vec<BenchRow>) {
    let is_earlier = |row: &BenchRow| run.iter().any(|new| new.is_of_same_run(row));
    let place = rows.iter().position(is_earlier).unwrap_or(rows.len());
    rows.retain(|row| !is_earlier(row));
    rows.splice(place..place, run);
}

/// Writes the rows.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write(file: &Path, rows: &[BenchRow]) -> Result<(), CompareError> {
    let mut text = String::new();
    for row in rows {
        text.push_str(&serde_json::json!(row).to_string());
        text.push('\n');
    }
    Ok(fs::write(file, text).map_err(StepError::file(file))?)
}

#[cfg(test)]
mod tests {
    use super::super::machine::{BenchMachine, MachineLimits};
    use super::*;

    fn row(shape: &str, version: &str) -> BenchRow {
        let limits = MachineLimits {
            device: "avx2".to_owned(),
            threads: 2,
            read_gb_s: Some(18.5),
        };
        BenchRow {
            program: "llama.cpp".to_owned(),
            version: version.to_owned(),
            machine: BenchMachine::here(&[limits]),
            shape: shape.to_owned(),
            work: "decode 64 x 1 @ 4096".parse().unwrap(),
            rounds: vec![33.0, 34.5, 29.25],
            median: 33.0,
            min: 29.25,
            max: 34.5,
            ratio_to_best_peer: Some(1.0),
        }
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("performance.jsonl");
        assert!(read(&file).unwrap().is_empty());
        let alone = BenchRow {
            ratio_to_best_peer: None,
            ..row("b", "2")
        };
        let rows = [row("a", "1"), alone];
        write(&file, &rows).unwrap();
        assert_eq!(read(&file).unwrap(), rows);
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains(r#""work":"decode 64 x 1 @ 4096""#), "{text}");
    }

    #[test]
    fn line_that_is_not_a_row_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("performance.jsonl");
        write(&file, &[row("a", "1")]).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.clone() + &text.replace("4096", "none")).unwrap();
        let error = read(&file).unwrap_err().to_string();
        assert!(error.contains("performance.jsonl:2: "), "{error}");
        assert!(error.contains("is not a workload"), "{error}");
    }

    #[test]
    fn run_replaces_the_rows_of_its_shape_in_their_place() {
        let mut rows = vec![row("a", "old"), row("a", "old"), row("b", "old")];
        replace(&mut rows, vec![row("a", "new")]);
        replace(&mut rows, vec![row("c", "new")]);
        let shown: Vec<_> = rows
            .iter()
            .map(|row| (row.shape.as_str(), row.version.as_str()))
            .collect();
        assert_eq!(shown, [("a", "new"), ("b", "old"), ("c", "new")]);
    }
}
