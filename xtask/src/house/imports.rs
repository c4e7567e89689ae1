//! The imports between modules.

use std::collections::BTreeMap;

use super::tree::{Import, ModuleId, Tree};

/// One module's use of another: the line where the first one was found.
pub(super) type Edges = BTreeMap<(ModuleId, ModuleId), usize>;

/// Deeper chains of `pub use` are not followed; a chain that leads back to itself ends here.
const HOPS: usize = 16;

/// Every use of one module's items by another. A name counts for the module that defines it, through any number of
/// `pub use`: neither importing a name through a re-export nor re-exporting it counts as a use of the module between.
pub(super) fn edges(tree: &Tree) -> Edges {
    let mut edges = Edges::new();
    for (id, module) in tree.modules.iter().enumerate() {
        let mut add = |target: Option<ModuleId>, line| {
            if let Some(target) = target.filter(|target| *target != id) {
                edges.entry((id, target)).or_insert(line);
            }
        };
        for import in module.imports.values().filter(|import| !import.is_reexport) {
            add(definer(tree, id, &import.path, HOPS), import.line);
        }
        for import in module.globs.iter().filter(|import| !import.is_reexport) {
            add(module_at(tree, id, &import.path, HOPS), import.line);
        }
        for (path, line) in &module.named {
            add(definer(tree, id, path, HOPS), *line);
        }
    }
    edges
}

/// The module that defines what `path` names in `from`; none for other crates' items, local names and modules.
fn definer(tree: &Tree, from: ModuleId, path: &[String], hops: usize) -> Option<ModuleId> {
    match find(tree, from, path, hops)? {
        Found::Item(id) => Some(id),
        Found::Module(_) => None,
    }
}

fn module_at(tree: &Tree, from: ModuleId, path: &[String], hops: usize) -> Option<ModuleId> {
    match find(tree, from, path, hops)? {
        Found::Module(id) => Some(id),
        Found::Item(_) => None,
    }
}

enum Found {
    Module(ModuleId),
    /// An item of this module.
    Item(ModuleId),
}

fn find(tree: &Tree, from: ModuleId, path: &[String], hops: usize) -> Option<Found> {
    let hops = hops.checked_sub(1)?;
    let mut rest = path;
    let mut here = from;
    let mut is_first = true;
    while let Some((name, after)) = rest.split_first() {
        let module = &tree.modules[here];
        match name.as_str() {
            "crate" => here = 0,
            "self" => {}
            "super" => here = module.parent?,
            "Self" => return None,
            name => {
                if let Some(&child) = module.children.get(name) {
                    here = child;
                } else if module.defined.contains(name) {
                    return Some(Found::Item(here));
                } else if let Some(import) = module.imports.get(name) {
                    // A name bound to itself is another crate's: `use regex;`.
                    if is_first && import.path.first() == Some(&name.to_owned()) {
                        return None;
                    }
                    let mut path = import.path.clone();
                    path.extend_from_slice(after);
                    return find(tree, here, &path, hops);
                } else {
                    return through_globs(tree, here, rest, &module.globs, hops);
                }
            }
        }
        is_first = false;
        rest = after;
    }
    Some(Found::Module(here))
}

fn through_globs(
    tree: &Tree,
    here: ModuleId,
    rest: &[String],
    globs: &[Import],
    hops: usize,
) -> Option<Found> {
    globs.iter().find_map(|glob| {
        let mut path = glob.path.clone();
        path.extend_from_slice(rest);
        find(tree, here, &path, hops)
    })
}
