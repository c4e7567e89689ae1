//! The table of docs/performance.md, rendered from rows.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::error::CompareError;
use super::row::{BenchRow, SANCTUM};
use crate::error::StepError;

/// The line before the table.
const BEGIN: &str =
    "<!-- bench-compare: begin. Written by `cargo xtask bench-compare --render` -->";
/// The line after it.
const END: &str = "<!-- bench-compare: end -->";

/// Writes the table of these rows into the page.
///
/// # Errors
/// If the page cannot be read or written, or has no place for the table.
pub(super) fn render(page: &Path, rows: &[BenchRow]) -> Result<(), CompareError> {
    let text = fs::read_to_string(page).map_err(StepError::file(page))?;
    let rendered = with_table(&text, &table(rows)).ok_or_else(|| CompareError::NoMarkers {
        page: page.to_owned(),
        begin: BEGIN,
        end: END,
    })?;
    Ok(fs::write(page, rendered).map_err(StepError::file(page))?)
}

/// The page with another table between the two lines; nothing if it lacks them.
fn with_table(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

/// A table for each run: a column for each program, a line for each workload.
pub(super) fn table(rows: &[BenchRow]) -> String {
    let runs = rows.chunk_by(BenchRow::is_of_same_run).map(run_table);
    match rows.is_empty() {
        true => "No run is recorded.\n".to_owned(),
        false => runs.collect::<Vec<_>>().join("\n"),
    }
}

/// The table of one run, which has rows.
fn run_table(rows: &[BenchRow]) -> String {
    let programs = distinct(rows.iter().map(|row| row.program.as_str()));
    let workloads = distinct(rows.iter().map(|row| row.work));
    let version = |program: &&str| {
        let row = rows.iter().find(|row| row.program == *program);
        format!("{program} {}", row.map_or("", |row| row.version.as_str()))
    };
    let versions: Vec<String> = programs.iter().map(version).collect();
    let BenchRow {
        shape,
        machine,
        rounds,
        ..
    } = &rows[0];
    let rounds = match rounds.len() {
        1 => "1 round".to_owned(),
        number => format!("{number} rounds"),
    };
    let mut text = format!(
        "**{shape}** on {machine}; {rounds}. {}.\n\n",
        versions.join(", ")
    );
    let _ = writeln!(text, "| Work | {} | Ratio |", programs.join(" | "));
    let _ = writeln!(text, "| --- |{} ---: |", " ---: |".repeat(programs.len()));
    for work in workloads {
        let _ = write!(text, "| {work} |");
        let find = |program: &str| {
            rows.iter()
                .find(|row| row.work == work && row.program == program)
        };
        for &program in &programs {
            let _ = write!(text, " {} |", find(program).map(rate).unwrap_or_default());
        }
        let ratio = find(SANCTUM).and_then(|row| row.ratio_to_best_peer);
        let ratio = ratio.map(|ratio| format!("{ratio:.2}"));
        let _ = writeln!(text, " {} |", ratio.unwrap_or_default());
    }
    text
}

/// The values without repetitions, in order.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct
}

/// The median with its spread.
fn rate(row: &BenchRow) -> String {
    let figure = |value: f64| match value < 100.0 {
        true => format!("{value:.1}"),
        false => format!("{value:.0}"),
    };
    match row.rounds.len() {
        1 => figure(row.median),
        _ => format!(
            "{} ({} to {})",
            figure(row.median),
            figure(row.min),
            figure(row.max)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::BenchMachine;
    use super::super::record;
    use super::*;
    use crate::target_folder;

    fn row(
        program: &str,
        shape: &str,
        work: &str,
        rounds: [f64; 3],
        ratio: Option<f64>,
    ) -> BenchRow {
        BenchRow {
            program: program.to_owned(),
            version: "1a2b".to_owned(),
            machine: BenchMachine {
                cpu: "AMD EPYC".to_owned(),
                gpu: None,
                device: "avx2".to_owned(),
                threads: 2,
                read_gb_s: Some(18.26),
            },
            shape: shape.to_owned(),
            work: work.parse().unwrap(),
            rounds: rounds.to_vec(),
            median: rounds[1],
            min: rounds[0],
            max: rounds[2],
            ratio_to_best_peer: ratio,
        }
    }

    #[test]
    fn table_has_a_column_for_each_program_and_a_line_for_each_workload() {
        let rows = [
            row(
                SANCTUM,
                "0.8b",
                "prefill 128",
                [167.0, 183.0, 211.4],
                Some(1.0),
            ),
            row(SANCTUM, "0.8b", "decode 64 x 8", [90.0, 92.0, 99.96], None),
            row(
                "llama.cpp",
                "0.8b",
                "prefill 128",
                [101.0, 183.0, 190.0],
                Some(1.0),
            ),
            row(SANCTUM, "4b", "decode 64 x 1", [8.8, 10.0, 11.7], None),
        ];
        assert_eq!(
            table(&rows),
            "**0.8b** on AMD EPYC, avx2, 2 threads, memory reads at 18.3 GB/s; 3 rounds. Sanctum 1a2b, llama.cpp 1a2b.\n\
             \n\
             | Work | Sanctum | llama.cpp | Ratio |\n\
             | --- | ---: | ---: | ---: |\n\
             | prefill 128 | 183 (167 to 211) | 183 (101 to 190) | 1.00 |\n\
             | decode 64 x 8 | 92.0 (90.0 to 100.0) |  |  |\n\
             \n\
             **4b** on AMD EPYC, avx2, 2 threads, memory reads at 18.3 GB/s; 3 rounds. Sanctum 1a2b.\n\
             \n\
             | Work | Sanctum | Ratio |\n\
             | --- | ---: | ---: |\n\
             | decode 64 x 1 | 10.0 (8.8 to 11.7) |  |\n"
        );
        assert_eq!(table(&[]), "No run is recorded.\n");
    }

    #[test]
    fn table_is_replaced_between_its_markers() {
        let page = format!("# Page\n\n{BEGIN}\nold\n{END}\n\nRest.\n");
        let expected = format!("# Page\n\n{BEGIN}\n\nnew\n\n{END}\n\nRest.\n");
        let rendered = with_table(&page, "new\n").unwrap();
        assert_eq!(rendered, expected);
        assert_eq!(with_table(&rendered, "new\n"), Some(expected));
        assert_eq!(with_table(&format!("{END}\n{BEGIN}\n"), "new\n"), None);

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("page.md");
        fs::write(&file, "# Page\n").unwrap();
        let error = render(&file, &[]).unwrap_err().to_string();
        assert!(
            error.contains(BEGIN) && error.contains("page.md"),
            "{error}"
        );
    }

    #[test]
    fn performance_page_is_what_its_file_renders_to() {
        let docs = target_folder::workspace().join("docs");
        let rows = record::read(&docs.join("performance.jsonl")).unwrap();
        let page = fs::read_to_string(docs.join("performance.md")).unwrap();
        assert!(
            with_table(&page, &table(&rows)).as_deref() == Some(page.as_str()),
            "docs/performance.md does not match docs/performance.jsonl; run cargo xtask bench-compare --render"
        );
    }
}
