//! No circle of imports: whoever reads a room has to be able to begin somewhere. The graph is built from the `use` lines and
//! the paths of the sources, tests left out.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

use super::{files, is_test};

/// Circles that are there today, each by its modules. This list may only shrink: a circle that lost a module must be written
/// with what is left of it, and one that is gone must leave.
const KNOWN: &[&[&str]] = &[
    &["cli", "ctl::debug", "ctl::history"],
    &[
        "config",
        "config::assemble",
        "config::client",
        "config::fragment",
        "config::media",
        "config::merge",
        "config::upstream",
        "config::validate",
    ],
    &[
        "ctl::doctor",
        "ctl::doctor::here",
        "ctl::doctor::machine",
        "ctl::doctor::neighbour",
        "ctl::doctor::ports",
        "ctl::doctor::store",
        "ctl::doctor::upstream",
    ],
    &["ctl::import", "ctl::import::media"],
    &[
        "ctl::setup",
        "ctl::setup::answers",
        "ctl::setup::profile",
        "ctl::setup::store",
    ],
    &[
        "db",
        "db::connection",
        "db::domain",
        "db::guard",
        "db::host",
        "db::pipe",
        "db::reach",
        "db::session",
    ],
    &["dev::cluster", "dev::host"],
    &["host::units", "host::written"],
    &["net::inbox", "net::responder", "net::udp"],
];

type Module = Vec<String>;
type Graph = BTreeMap<Module, BTreeSet<Module>>;

/// What one module names.
struct Named<'a> {
    from: &'a Module,
    all: &'a BTreeSet<Module>,
    found: BTreeSet<Module>,
}

impl Named<'_> {
    /// The module that a path leads into, seen from `from`.
    fn note(&mut self, path: &[String]) {
        let mut base: Module = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some(_) => self.from.clone(),
            None => return,
        };
        for word in path {
            match word.as_str() {
                "crate" | "self" => {}
                "super" => drop(base.pop()),
                _ => base.push(word.clone()),
            }
        }
        let known = (1..=base.len()).rev().map(|n| base[..n].to_vec());
        let module = known.into_iter().find(|module| self.all.contains(module));
        if let Some(module) = module.filter(|module| module != self.from) {
            self.found.insert(module);
        }
    }

    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.note(&with(&name.ident)),
            syn::UseTree::Rename(name) => self.note(&with(&name.ident)),
            syn::UseTree::Glob(_) => self.note(before),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.tree(before, tree))
            }
        }
    }
}

pub(super) fn of_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| {
        a.path().is_ident("cfg")
            && a.parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Named<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !of_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if words.len() > 1 {
            self.note(&words);
        }
        visit::visit_path(self, path);
    }
}

fn module(path: &str) -> Option<Module> {
    let path = path.strip_prefix("agent/src/")?.strip_suffix(".rs")?;
    let mut words: Module = path.split('/').map(str::to_owned).collect();
    words.pop_if(|last| last == "mod");
    (words != ["lib"] && words != ["main"]).then_some(words)
}

fn graph(sources: &[(String, String)]) -> Graph {
    let modules = sources
        .iter()
        .filter_map(|(path, text)| Some((module(path)?, text)));
    let modules: Vec<(Module, &String)> = modules.collect();
    let all: BTreeSet<Module> = modules.iter().map(|(module, _)| module.clone()).collect();
    let names = |(module, text): &(Module, &String)| {
        let mut named = Named {
            from: module,
            all: &all,
            found: BTreeSet::new(),
        };
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{module:?}: {error}"));
        named.visit_file(&file);
        (module.clone(), named.found)
    };
    modules.iter().map(names).collect()
}

fn reached(graph: &Graph, from: &Module) -> BTreeSet<Module> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(at) = open.pop() {
        for next in graph.get(&at).into_iter().flatten() {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

/// Groups of modules each of which leads to each other.
fn circles(graph: &Graph) -> BTreeSet<BTreeSet<Module>> {
    let reach: BTreeMap<&Module, BTreeSet<Module>> =
        graph.keys().map(|m| (m, reached(graph, m))).collect();
    let round = |m: &Module| reach[m].contains(m);
    let circle = |m: &Module| {
        let both = |other: &&Module| reach[m].contains(*other) && reach[other].contains(m);
        graph.keys().filter(both).cloned().collect()
    };
    graph.keys().filter(|m| round(m)).map(circle).collect()
}

/// One way round, for people: `a -> b -> a`.
fn way(graph: &Graph, circle: &BTreeSet<Module>) -> String {
    let mut way: Vec<Module> = circle.first().cloned().into_iter().collect();
    while let Some(last) = way.last() {
        let next = graph[last].iter().find(|next| {
            circle.contains(*next)
                && (reached(graph, next).contains(&way[0]) && !way[1..].contains(next))
        });
        let Some(next) = next else { break };
        let done = *next == way[0];
        way.push(next.clone());
        if done {
            break;
        }
    }
    let names: Vec<String> = way.iter().map(|module| module.join("::")).collect();
    names.join(" -> ")
}

fn source(path: &str, text: &str) -> (String, String) {
    (format!("agent/src/{path}"), text.to_owned())
}

#[test]
fn a_circle_is_found() {
    let a = source("a/one.rs", "use super::two::Two;");
    let through = source("a/two.rs", "use crate::b::{self as other, Three};");
    let back = source("b/mod.rs", "fn f() { crate::a::one::f() }");
    let tests = source(
        "b/mod.rs",
        "#[cfg(test)] mod tests { use crate::a::one::One; }",
    );
    let round = graph(&[a.clone(), through.clone(), back]);
    let found = circles(&round);
    assert_eq!(found.len(), 1, "{round:?}");
    let circle = found.first().expect("one");
    assert_eq!(way(&round, circle), "a::one -> a::two -> b -> a::one");
    assert!(circles(&graph(&[a, through, tests])).is_empty());
}

#[test]
fn no_circle_of_imports() {
    let sources: Vec<(String, String)> = files("agent/src", "rs")
        .into_iter()
        .filter(|s| !is_test(&s.path))
        .map(|s| (s.path, s.text))
        .collect();
    assert!(sources.len() > 100, "the sources were not found");
    let graph = graph(&sources);
    let named = |list: &[&str]| -> BTreeSet<Module> {
        let words = |name: &&str| name.split("::").map(str::to_owned).collect();
        list.iter().map(words).collect()
    };
    let known: BTreeSet<BTreeSet<Module>> = KNOWN.iter().map(|list| named(list)).collect();
    let found = circles(&graph);
    let said = |circle: &BTreeSet<Module>| {
        let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
        format!("{}, of {names:?}", way(&graph, circle))
    };
    let new: Vec<String> = found.difference(&known).map(said).collect();
    assert!(new.is_empty(), "circles of imports:\n{}", new.join("\n"));
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(
        gone.is_empty(),
        "no circle any more, take it off KNOWN: {gone:?}"
    );
}
