//! The modules of one crate target, as its files declare them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMacro, ItemUse, Meta, UseTree};

use super::error::HouseError;

/// A module's index in [`Tree::modules`].
pub(super) type ModuleId = usize;

/// The modules of one crate target; the first one is the root.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// All of them, a parent before its children.
    pub modules: Vec<Module>,
}

/// One module. Test modules are left out: they may import anything.
#[derive(Debug)]
pub(super) struct Module {
    /// Its path in the crate; empty for the root.
    pub path: Vec<String>,
    /// The file that it is written in.
    pub file: PathBuf,
    /// The module that declares it.
    pub parent: Option<ModuleId>,
    /// The modules that it declares.
    pub children: BTreeMap<String, ModuleId>,
    /// Items that are defined here.
    pub defined: BTreeSet<String>,
    /// Names that `use` binds here.
    pub imports: BTreeMap<String, Import>,
    /// Modules whose every name is bound here.
    pub globs: Vec<Import>,
    /// Every path that the code names outside of `use`, and the line.
    pub named: Vec<(Vec<String>, usize)>,
}

/// One name that `use` binds.
#[derive(Clone, Debug)]
pub(super) struct Import {
    /// The path as it is written.
    pub path: Vec<String>,
    /// Whether it is a `pub use`.
    pub is_reexport: bool,
    /// The line of the file.
    pub line: usize,
}

impl Module {
    /// `crate::a::b`.
    pub(super) fn name(&self) -> String {
        std::iter::once("crate")
            .chain(self.path.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join("::")
    }
}

impl Tree {
    /// Reads the file of a target's root (`src/lib.rs`) and every module below it.
    ///
    /// # Errors
    /// If a file is missing or is not Rust.
    pub(super) fn read(root: &Path) -> Result<Self, HouseError> {
        let mut tree = Self::default();
        let folder = root.parent().unwrap_or(Path::new("")).to_owned();
        let items = parse(root)?.items;
        tree.add(Vec::new(), root, None, &folder, &items)?;
        Ok(tree)
    }

    fn add(
        &mut self,
        path: Vec<String>,
        file: &Path,
        parent: Option<ModuleId>,
        folder: &Path,
        items: &[Item],
    ) -> Result<ModuleId, HouseError> {
        let id = self.modules.len();
        self.modules.push(Module {
            path: path.clone(),
            file: file.to_owned(),
            parent,
            children: BTreeMap::new(),
            defined: BTreeSet::new(),
            imports: BTreeMap::new(),
            globs: Vec::new(),
            named: Vec::new(),
        });
        for item in items {
            if attributes(item).is_some_and(|attributes| attributes.iter().any(is_for_tests)) {
                continue;
            }
            let Item::Mod(module) = item else {
                self.read_item(id, item);
                continue;
            };
            let name = module.ident.to_string();
            let mut below = path.clone();
            below.push(name.clone());
            let inside = folder.join(&name);
            let child = match &module.content {
                Some((_, items)) => self.add(below, file, Some(id), &inside, items)?,
                None => {
                    let file = module_file(folder, &name, &module.attrs)?;
                    let items = parse(&file)?.items;
                    self.add(below, &file, Some(id), &inside, &items)?
                }
            };
            self.modules[id].children.insert(name, child);
        }
        Ok(id)
    }

    fn read_item(&mut self, id: ModuleId, item: &Item) {
        let module = &mut self.modules[id];
        module.defined.extend(defined(item));
        Reader { module }.visit_item(item);
    }
}

/// Collects what an item imports and names.
struct Reader<'a> {
    module: &'a mut Module,
}

impl Reader<'_> {
    fn bind(&mut self, tree: &UseTree, path: &[String], is_reexport: bool) {
        let with = |name: &syn::Ident| {
            let mut path = path.to_vec();
            path.push(name.to_string());
            path
        };
        let import = |path: Vec<String>, line| Import {
            path,
            is_reexport,
            line,
        };
        match tree {
            UseTree::Path(step) => self.bind(&step.tree, &with(&step.ident), is_reexport),
            UseTree::Name(name) => {
                let line = name.ident.span().start().line;
                let path = match name.ident == "self" {
                    true => path.to_vec(),
                    false => with(&name.ident),
                };
                if let Some(bound) = path.last().cloned() {
                    self.module.imports.insert(bound, import(path, line));
                }
            }
            UseTree::Rename(rename) => {
                let line = rename.ident.span().start().line;
                let path = with(&rename.ident);
                self.module
                    .imports
                    .insert(rename.rename.to_string(), import(path, line));
            }
            UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                self.module.globs.push(import(path.to_vec(), line));
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.bind(tree, path, is_reexport);
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_reexport = !matches!(item.vis, syn::Visibility::Inherited);
        // `use ::name` names another crate.
        if item.leading_colon.is_none() {
            self.bind(&item.tree, &[], is_reexport);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let names = path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string());
            let line = path
                .segments
                .first()
                .map_or(0, |first| first.ident.span().start().line);
            self.module.named.push((names.collect(), line));
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        // A macro's input is tokens: every `name::name` in it counts as a path.
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut joins = 0;
        let mut pending = vec![call.tokens.clone().into_iter()];
        while let Some(tokens) = pending.last_mut() {
            match tokens.next() {
                Some(proc_macro2::TokenTree::Ident(name)) => {
                    if joins < 2 {
                        self.named(&mut path, line);
                    }
                    line = name.span().start().line;
                    path.push(name.to_string());
                    joins = 0;
                }
                Some(proc_macro2::TokenTree::Punct(sign)) if sign.as_char() == ':' => joins += 1,
                Some(proc_macro2::TokenTree::Group(group)) => {
                    self.named(&mut path, line);
                    joins = 0;
                    pending.push(group.stream().into_iter());
                }
                Some(_) => {
                    self.named(&mut path, line);
                    joins = 0;
                }
                None => {
                    self.named(&mut path, line);
                    joins = 0;
                    pending.pop();
                }
            }
        }
    }

    fn visit_item_mod(&mut self, _: &'ast syn::ItemMod) {
        // A module within a function is part of the function.
    }
}

impl Reader<'_> {
    fn named(&mut self, path: &mut Vec<String>, line: usize) {
        if !path.is_empty() {
            self.module.named.push((std::mem::take(path), line));
        }
    }
}

/// Parses a file.
///
/// # Errors
/// If it cannot be read or is not Rust.
pub(super) fn parse(file: &Path) -> Result<syn::File, HouseError> {
    let text = fs::read_to_string(file).map_err(|source| HouseError::Read {
        file: file.to_owned(),
        source,
    })?;
    syn::parse_file(&text).map_err(|source| HouseError::Parse {
        file: file.to_owned(),
        source,
    })
}

fn module_file(folder: &Path, name: &str, attributes: &[Attribute]) -> Result<PathBuf, HouseError> {
    for attribute in attributes {
        if let Meta::NameValue(pair) = &attribute.meta
            && pair.path.is_ident("path")
            && let syn::Expr::Lit(literal) = &pair.value
            && let syn::Lit::Str(file) = &literal.lit
        {
            return Ok(folder.join(file.value()));
        }
    }
    let file = folder.join(format!("{name}.rs"));
    match file.is_file() {
        true => Ok(file),
        false => Err(HouseError::NoModule { file }),
    }
}

/// `#[cfg(test)]`, also within `all(…)`, and `#[test]`.
fn is_for_tests(attribute: &Attribute) -> bool {
    match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let text = list.tokens.to_string();
            text == "test" || (text.starts_with("all") && text.contains("test"))
        }
        meta => meta.path().is_ident("test"),
    }
}

fn attributes(item: &Item) -> Option<&[Attribute]> {
    Some(match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return None,
    })
}

fn defined(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Macro(ItemMacro {
            ident: Some(name), ..
        }) => name.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Union(item) => item.ident.to_string(),
        _ => return None,
    })
}
