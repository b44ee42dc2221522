//! A `match` over an enum of ours names every variant: an arm `_ =>` would swallow whatever is added later. Matches are read by
//! syn, so those inside macros (`tokio::select!`) are seen by the rule `swallowed` only, which reads lines.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

use super::circles::of_tests;
use super::{files, is_test};

/// Files that have such matches today, and how many. This list may only shrink.
const KNOWN: &[(&str, usize)] = &[];
/// Where a path leads to what is ours.
const OUR_ROOTS: &[&str] = &["crate", "self", "super", "wa_agent", "wa_bpf", "wa_core"];

/// Enum and variants.
type Enums = BTreeMap<String, BTreeSet<String>>;

#[derive(Default)]
struct Defined(Enums);

impl<'ast> Visit<'ast> for Defined {
    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        let variants = item.variants.iter().map(|v| v.ident.to_string());
        let known = self.0.entry(item.ident.to_string()).or_default();
        known.extend(variants);
        visit::visit_item_enum(self, item);
    }
}

/// Whether some path in a pattern names a variant of ours.
struct Ours<'a> {
    enums: &'a Enums,
    /// What the file calls them: `use Action as A`, and `Self`; and what it takes from other crates.
    called: &'a BTreeMap<String, String>,
    foreign: &'a BTreeSet<String>,
    found: Option<String>,
}

impl<'ast> Visit<'ast> for Ours<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if let [.., name, variant] = &words[..] {
            if self.foreign.contains(&words[0]) {
                return;
            }
            let name = self.called.get(name).unwrap_or(name);
            let ours = self.enums.get(name);
            if ours.is_some_and(|variants| variants.contains(variant)) {
                self.found = Some(format!("{name}::{variant}"));
            }
        }
    }
}

/// The matches of one file that swallow the rest: in which function, over what.
struct Swallowed<'a> {
    enums: &'a Enums,
    called: BTreeMap<String, String>,
    foreign: BTreeSet<String>,
    /// Modules that this file has.
    modules: BTreeSet<String>,
    inside: String,
    found: Vec<String>,
}

impl Swallowed<'_> {
    fn names(&mut self, foreign: bool, tree: &syn::UseTree) {
        let (of, called) = match tree {
            syn::UseTree::Path(path) => return self.names(foreign, &path.tree),
            syn::UseTree::Group(group) => {
                let trees = group.items.iter();
                return trees.for_each(|tree| self.names(foreign, tree));
            }
            syn::UseTree::Rename(name) => (name.ident.to_string(), name.rename.to_string()),
            syn::UseTree::Name(name) => (name.ident.to_string(), name.ident.to_string()),
            syn::UseTree::Glob(_) => return,
        };
        if foreign {
            self.foreign.insert(called);
        } else {
            self.called.insert(called, of);
        }
    }

    fn of_ours(&self, pattern: &syn::Pat) -> Option<String> {
        let mut ours = Ours {
            enums: self.enums,
            called: &self.called,
            foreign: &self.foreign,
            found: None,
        };
        ours.visit_pat(pattern);
        ours.found
    }
}

impl<'ast> Visit<'ast> for Swallowed<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.modules.insert(item.ident.to_string());
        if !of_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // The 2018 way: a name of this crate begins with one of our roots, a module of this file, or an enum.
        let foreign = match &item.tree {
            syn::UseTree::Path(path) => {
                let root = path.ident.to_string();
                let here = self.enums.contains_key(&root) || self.modules.contains(&root);
                let ours = here || OUR_ROOTS.contains(&root.as_str());
                if !ours {
                    self.foreign.insert(root);
                }
                !ours
            }
            syn::UseTree::Name(_)
            | syn::UseTree::Rename(_)
            | syn::UseTree::Glob(_)
            | syn::UseTree::Group(_) => false,
        };
        self.names(foreign, &item.tree);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let syn::Type::Path(of) = &*item.self_ty
            && let Some(last) = of.path.segments.last()
        {
            self.called.insert("Self".into(), last.ident.to_string());
        }
        visit::visit_item_impl(self, item);
        self.called.remove("Self");
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !of_tests(&item.attrs) {
            self.inside = item.sig.ident.to_string();
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.inside = item.sig.ident.to_string();
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_expr_match(&mut self, item: &'ast syn::ExprMatch) {
        // One with a guard takes nothing from the compiler, which still asks for the other variants.
        let rest = |arm: &syn::Arm| matches!(arm.pat, syn::Pat::Wild(_));
        if item.arms.iter().any(rest)
            && let Some(over) = item.arms.iter().find_map(|arm| self.of_ours(&arm.pat))
        {
            self.found.push(format!("{}, beside {over}", self.inside));
        }
        visit::visit_expr_match(self, item);
    }
}

fn defined<'a>(texts: impl Iterator<Item = &'a str>) -> Enums {
    let mut all = Defined::default();
    for text in texts {
        all.visit_file(&syn::parse_file(text).expect("it compiles"));
    }
    all.0
}

fn swallowed(enums: &Enums, text: &str) -> Vec<String> {
    let mut rest = Swallowed {
        enums,
        called: BTreeMap::new(),
        foreign: BTreeSet::new(),
        modules: BTreeSet::new(),
        inside: String::new(),
        found: Vec::new(),
    };
    rest.visit_file(&syn::parse_file(text).expect("it compiles"));
    rest.found
}

#[test]
fn what_swallows_the_rest_is_found() {
    let enums = "enum Phase { Free, Active }";
    let found = |code: &str| {
        let text = format!("{enums} {code}");
        swallowed(&defined([enums].into_iter()), &text).len()
    };
    for bad in [
        "fn f() { match p { Phase::Free => 1, _ => 2 } }",
        "fn f() { match (a, p) { (1, Some(Phase::Free | Phase::Active)) => 1, _ => 2 } }",
        "fn f() { match p { crate::Phase::Free if late => 1, _ => 2 } }",
        "impl Phase { fn f(self) { match self { Self::Free => 1, _ => 2 } } }",
        "mod a; use a::Phase; fn f() { match p { Phase::Free => 1, _ => 2 } }",
        "use super::Phase as P; fn f() { match p { P::Free => 1, _ => 2 } }",
    ] {
        assert_eq!(found(bad), 1, "{bad}");
    }
    for good in [
        "fn f() { match p { Phase::Free => 1, Phase::Active => 2 } }",
        "fn f() { match p { _ if late => 2, Phase::Free => 1, Phase::Active => 1 } }",
        "fn f() { match word { \"free\" => Phase::Free, _ => Phase::Active } }",
        "fn f() { match other { other::Phase::Elsewhere => 1, _ => 2 } }",
        "use other::Phase; fn f() { match other { Phase::Free => 1, _ => 2 } }",
        "use other::Else; fn f() { match other { other::Phase::Free => 1, _ => 2 } }",
        "impl Other { fn f(self) { match self { Self::Free => 1, _ => 2 } } }",
        "#[cfg(test)] mod tests { fn f() { match p { Phase::Free => 1, _ => 2 } } }",
    ] {
        assert_eq!(found(good), 0, "{good}");
    }
}

#[test]
fn no_match_over_our_enums_swallows_the_rest() {
    let sources = files("agent", "rs").into_iter();
    let sources: Vec<_> = sources.filter(|s| !is_test(&s.path)).collect();
    assert!(sources.len() > 100, "the sources were not found");
    let enums = defined(sources.iter().map(|s| s.text.as_str()));
    let known: BTreeMap<&str, usize> = KNOWN.iter().copied().collect();
    let mut bad = Vec::new();
    for source in &sources {
        let found = swallowed(&enums, &source.text);
        let may = known.get(source.path.as_str()).copied().unwrap_or(0);
        if found.len() > may {
            bad.push(format!(
                "{}: name the rest, what is added later must not be swallowed: {found:#?}",
                source.path
            ));
        } else if found.len() < may {
            let path = &source.path;
            bad.push(format!(
                "{path}: {} are left, write that into KNOWN",
                found.len()
            ));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
