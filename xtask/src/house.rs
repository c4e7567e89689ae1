//! `cargo xtask house`: compares the code's structure with docs/architecture.md.
//!
//! Three rules. No two modules of a crate import from each other, directly or through others, so that a reader can start
//! at the bottom. A crate depends only on crates to which the page draws an arrow. A type name means one thing in the
//! workspace.

mod arrows;
mod cycles;
mod error;
mod imports;
mod package;
mod page;
mod tree;
mod type_names;

use std::path::Path;
use std::process::ExitCode;

use self::arrows::Arrows;
pub(crate) use self::error::HouseError;
use self::page::ArchitecturePage;
use self::tree::Tree;

/// Prints every violation; fails if there is one.
///
/// # Errors
/// If the structure cannot be read.
pub(crate) fn run(workspace: &Path) -> Result<ExitCode, HouseError> {
    let packages = package::all(workspace)?;
    let page = ArchitecturePage::read(&workspace.join("docs/architecture.md"))?;
    let mut problems = Arrows::of(&page)?.violations(&packages);
    problems.extend(type_names::violations(&packages, &page, workspace)?);
    let mut modules = 0;
    for package in &packages {
        for target in package.targets.iter().filter(|target| target.is_ours()) {
            let tree = Tree::read(&target.src_path)?;
            modules += tree.modules.len();
            problems.extend(cycles::in_tree(&tree, workspace));
        }
    }
    match problems.len() {
        0 => {
            println!(
                "{modules} modules of {} crates: no cycle, no undrawn arrow, no ambiguous type name",
                packages.len()
            );
            Ok(ExitCode::SUCCESS)
        }
        number => {
            for problem in problems {
                eprintln!("{problem}\n");
            }
            eprintln!("{number} problems in the structure; docs/architecture.md has the rules");
            Ok(ExitCode::FAILURE)
        }
    }
}
