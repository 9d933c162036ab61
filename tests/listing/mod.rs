//! The public API of the library as its sources say it: what `src/lib.rs` re-exports, with signatures, without bodies.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::Visit;
use syn::{Attribute, Fields, ImplItem, Item, ItemImpl, Visibility};

use crate::source::File;

/// What stands for fields that are not public, until the text is made.
const PRIVATE: &str = "PrivateFields";

/// One public type or function, with all that is public about it.
pub struct Entry {
    pub name: String,
    pub items: Vec<Item>,
    /// The names of its public methods, and of what it is itself.
    pub names: BTreeSet<String>,
    /// Types in its signatures that are neither exported nor allowed, each with its file.
    pub foreign: BTreeSet<String>,
}

/// Every entry, sorted by name.
pub fn api(files: &[File]) -> Vec<Entry> {
    let parsed: Vec<(&str, Parsed)> = files
        .iter()
        .filter(|file| is_source(&file.path))
        .map(|file| (&*file.path, Parsed::of(file)))
        .collect();
    let lib = parsed.iter().find(|(path, _)| *path == "src/lib.rs").unwrap();
    let exports = exports(&lib.1.items);
    let names: BTreeSet<&str> = exports.iter().map(|(_, name)| &**name).collect();
    let entry = |(room, name): &(String, String)| {
        let mut entry = Entry::new(name);
        for (path, parsed) in &parsed {
            // The definition is in the room that it is exported from; the methods may be anywhere.
            let is_of_core = room.starts_with("core/");
            if path.starts_with(room.as_str()) {
                parsed.items.iter().for_each(|item| entry.define(item));
            }
            if !is_of_core || path.starts_with("core/") {
                let impls = parsed.items.iter().filter_map(|item| match item {
                    Item::Impl(one) if implements(one, name) => Some(one),
                    _ => None,
                });
                impls.for_each(|one| entry.implement(one));
            }
        }
        assert!(!entry.items.is_empty(), "{name} is not found in {room}");
        entry.look_at_types(&parsed, room, &names);
        entry
    };
    let mut entries: Vec<Entry> = exports.iter().map(entry).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

fn is_source(path: &str) -> bool {
    let is_rust = path.ends_with(".rs") && !path.ends_with("tests.rs") && !path.contains("/tests/");
    is_rust && (path.starts_with("src/") || path.starts_with("core/src/"))
}

struct Parsed {
    items: Vec<Item>,
    /// Imported names, each with its first segment: `Duration` is from `std`.
    imports: BTreeMap<String, String>,
}

impl Parsed {
    fn of(file: &File) -> Parsed {
        let mut items =
            syn::parse_file(&file.text).unwrap_or_else(|e| panic!("{}: {e}", file.path)).items;
        items.retain(|item| !is_for_tests(attributes(item)));
        let mut imports = BTreeMap::new();
        for item in &items {
            if let Item::Use(one) = item {
                each_import(&one.tree, &mut Vec::new(), &mut |path, name| {
                    imports.insert(name.to_owned(), path[0].clone());
                });
            }
        }
        Parsed { items, imports }
    }
}

/// What `src/lib.rs` exports: the start of the path of the file or folder, and the name.
fn exports(items: &[Item]) -> Vec<(String, String)> {
    let mut exports = Vec::new();
    for item in items {
        let Item::Use(one) = item else { continue };
        if !matches!(one.vis, Visibility::Public(_)) {
            continue;
        }
        each_import(&one.tree, &mut Vec::new(), &mut |path, name| {
            let room = match path {
                [of, module, ..] if of == "tallymesh_core" => format!("core/src/{module}"),
                [module, ..] => format!("src/{}", module.trim_start_matches("crate::")),
                [] => unreachable!("a path has a start"),
            };
            exports.push((room, name.to_owned()));
        });
    }
    exports
}

fn each_import(
    tree: &syn::UseTree,
    path: &mut Vec<String>,
    found: &mut impl FnMut(&[String], &str),
) {
    match tree {
        syn::UseTree::Path(one) => {
            path.push(one.ident.to_string());
            each_import(&one.tree, path, found);
            path.pop();
        }
        syn::UseTree::Name(one) => {
            let name = one.ident.to_string();
            // `use std::fmt;` may be named `fmt::Display` later.
            let start = [name.clone()];
            found(if path.is_empty() { &start } else { path }, &name);
        }
        syn::UseTree::Rename(one) => found(path, &one.rename.to_string()),
        syn::UseTree::Glob(_) => {}
        syn::UseTree::Group(one) => {
            one.items.iter().for_each(|tree| each_import(tree, path, found));
        }
    }
}

impl Entry {
    fn new(name: &str) -> Entry {
        let names = BTreeSet::from([name.to_owned()]);
        Entry { name: name.to_owned(), items: Vec::new(), names, foreign: BTreeSet::new() }
    }

    /// Takes the item in if it is the one of this name.
    fn define(&mut self, item: &Item) {
        let mut item = item.clone();
        let (vis, ident) = match &mut item {
            Item::Struct(one) => {
                only_public(&mut one.fields);
                (&one.vis, &one.ident)
            }
            Item::Enum(one) => {
                for variant in &mut one.variants {
                    keep_attributes(&mut variant.attrs);
                    variant.fields.iter_mut().for_each(|field| keep_attributes(&mut field.attrs));
                }
                (&one.vis, &one.ident)
            }
            Item::Trait(one) => (&one.vis, &one.ident),
            Item::Type(one) => (&one.vis, &one.ident),
            Item::Fn(one) => {
                one.block.stmts.clear();
                (&one.vis, &one.sig.ident)
            }
            _ => return,
        };
        if *ident != self.name || !matches!(vis, Visibility::Public(_)) {
            return;
        }
        keep_attributes(attributes_mut(&mut item));
        self.items.push(item);
    }

    fn implement(&mut self, one: &ItemImpl) {
        let mut one = one.clone();
        keep_attributes(&mut one.attrs);
        if one.trait_.is_some() {
            one.items.clear();
        } else {
            one.items.retain_mut(|item| match item {
                ImplItem::Fn(method) => {
                    keep_attributes(&mut method.attrs);
                    method.block.stmts.clear();
                    matches!(method.vis, Visibility::Public(_))
                }
                ImplItem::Const(one) => {
                    keep_attributes(&mut one.attrs);
                    matches!(one.vis, Visibility::Public(_))
                }
                _ => false,
            });
            if one.items.is_empty() {
                return;
            }
        }
        for item in &one.items {
            if let ImplItem::Fn(method) = item {
                self.names.insert(format!("{}::{}", self.name, method.sig.ident));
            }
        }
        self.items.push(Item::Impl(one));
    }

    fn look_at_types(&mut self, parsed: &[(&str, Parsed)], room: &str, exported: &BTreeSet<&str>) {
        let mut types = Types::default();
        self.items.iter().for_each(|item| types.visit_item(item));
        for (first, whole) in types.found {
            let from = |(path, parsed): &(&str, Parsed)| {
                path.starts_with(room).then(|| parsed.imports.get(&first).cloned()).flatten()
            };
            let origin = parsed.iter().find_map(from).unwrap_or_else(|| first.clone());
            let is_ours = exported.contains(whole.as_str()) || exported.contains(first.as_str());
            let is_known =
                ["std", "core", "alloc", "serde"].contains(&&*origin) || is_built_in(&first);
            if !is_ours && !is_known && !types.generics.contains(&first) && first != PRIVATE {
                self.foreign.insert(whole);
            }
        }
    }

    /// The entry as text.
    pub fn text(&self) -> String {
        let file = syn::File { shebang: None, attrs: Vec::new(), items: self.items.clone() };
        let mut text = prettyplease::unparse(&file);
        text = text.replace(&format!("    private: {PRIVATE},\n"), "    /* private */\n");
        text = text.replace(&format!("({PRIVATE})"), "(/* private */)");
        text.replace(" {}\n", ";\n")
    }
}

/// The types of signatures: the first segment of each path, and its last.
#[derive(Default)]
struct Types {
    found: BTreeSet<(String, String)>,
    generics: BTreeSet<String>,
}

impl<'a> Visit<'a> for Types {
    fn visit_generic_param(&mut self, param: &'a syn::GenericParam) {
        if let syn::GenericParam::Type(one) = param {
            self.generics.insert(one.ident.to_string());
        }
        syn::visit::visit_generic_param(self, param);
    }

    fn visit_attribute(&mut self, _: &'a Attribute) {}

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segment = |at: Option<&syn::PathSegment>| at.unwrap().ident.to_string();
        self.found.insert((segment(path.segments.first()), segment(path.segments.last())));
        syn::visit::visit_path(self, path);
    }

    /// Who may see an item is no type.
    fn visit_visibility(&mut self, _: &'a Visibility) {}
}

/// Of the language, of the standard library (`SystemTime` comes by way of core's `sync.rs`), or serde's traits.
fn is_built_in(name: &str) -> bool {
    let built_in = "u8 u16 u32 u64 u128 i8 i16 i32 i64 usize isize f32 f64 bool char str Self \
        Option Result Vec String Box Into From AsRef Iterator IntoIterator FromIterator Fn FnMut FnOnce \
        Send Sync Clone Copy Debug Default Drop Eq PartialEq Ord PartialOrd Hash TryFrom TryInto \
        ExactSizeIterator SystemTime Serialize Deserialize";
    built_in.split_whitespace().any(|one| one == name)
}

fn implements(one: &ItemImpl, name: &str) -> bool {
    let syn::Type::Path(path) = &*one.self_ty else { return false };
    path.path.segments.last().is_some_and(|segment| segment.ident == name)
}

fn only_public(fields: &mut Fields) {
    let is_public = |field: &syn::Field| matches!(field.vis, Visibility::Public(_));
    let hidden = fields.iter().any(|field| !is_public(field));
    match fields {
        Fields::Named(named) => {
            named.named = named.named.iter().filter(|field| is_public(field)).cloned().collect();
            if hidden {
                named.named.push(syn::parse_quote!(private: PrivateFields));
            }
        }
        Fields::Unnamed(unnamed) if hidden => {
            *unnamed = syn::parse_quote!((PrivateFields));
        }
        _ => {}
    }
    fields.iter_mut().for_each(|field| keep_attributes(&mut field.attrs));
}

/// Leaves what is part of the API: not the documentation, nor what only the compiler reads.
fn keep_attributes(attributes: &mut Vec<Attribute>) {
    let kept = ["derive", "non_exhaustive", "must_use", "cfg", "cfg_attr"];
    attributes.retain_mut(|one| {
        if one.path().is_ident("must_use") {
            one.meta = syn::parse_quote!(must_use);
        }
        kept.iter().any(|kept| one.path().is_ident(kept))
    });
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    let says_test = |one: &Attribute| match &one.meta {
        // What cargo-fuzz runs, the library's own tests replay.
        syn::Meta::List(list) => {
            ["test", "any (test , fuzzing)"].contains(&&*list.tokens.to_string())
        }
        _ => false,
    };
    attributes.iter().any(|one| one.path().is_ident("cfg") && says_test(one))
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(one) => &one.attrs,
        Item::Use(one) => &one.attrs,
        Item::Impl(one) => &one.attrs,
        Item::Fn(one) => &one.attrs,
        Item::Struct(one) => &one.attrs,
        Item::Enum(one) => &one.attrs,
        _ => &[],
    }
}

fn attributes_mut(item: &mut Item) -> &mut Vec<Attribute> {
    match item {
        Item::Struct(one) => &mut one.attrs,
        Item::Enum(one) => &mut one.attrs,
        Item::Fn(one) => &mut one.attrs,
        Item::Trait(one) => &mut one.attrs,
        Item::Type(one) => &mut one.attrs,
        _ => unreachable!("nothing else is defined"),
    }
}
