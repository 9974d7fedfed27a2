//! What a client wants of one type, by the rules of the protocol: a first request without names
//! means everything until the stream has named something, and `*` means everything at any time.

use std::collections::BTreeSet;

use crate::message::Asks;
use crate::snapshot::Type;

const WILDCARD: &str = "*";

/// What a client wants of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    wildcard: bool,
    names: BTreeSet<String>,
    /// Whether any request was seen.
    begun: bool,
    /// Whether a name was ever said: from then on no names means nothing.
    named: bool,
}

/// What a request changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Names that were asked for, and are to be answered even if the client has had them.
    pub(super) asked: Vec<String>,
    /// Names that were given up while `*` still covers them, which is to be answered too.
    pub(super) uncovered: Vec<String>,
    /// Whether everything was asked for: to be answered even if there is nothing.
    pub(super) everything: bool,
}

impl Subscription {
    /// Whether the client asked for anything, ever.
    pub(super) const fn has_begun(&self) -> bool {
        self.begun
    }

    pub(super) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    pub(super) fn apply(&mut self, kind: Type, asks: &Asks) -> Changed {
        let first = !self.begun;
        self.begun = true;
        match asks {
            Asks::Names { names, .. } => self.replace(kind, first, names),
            Asks::Changes {
                subscribe,
                unsubscribe,
                ..
            } => self.change(kind, first, subscribe, unsubscribe),
        }
    }

    fn replace(&mut self, kind: Type, first: bool, names: &[String]) -> Changed {
        self.named |= !names.is_empty();
        let was_wildcard = self.wildcard;
        self.wildcard = kind.is_whole()
            && (names.iter().any(|name| name == WILDCARD) || (names.is_empty() && !self.named));
        let names: BTreeSet<String> = names
            .iter()
            .filter(|name| *name != WILDCARD)
            .cloned()
            .collect();
        let asked = names.difference(&self.names).cloned().collect();
        self.names = names;
        Changed {
            asked,
            uncovered: Vec::new(),
            everything: kind.is_whole() && (first || (self.wildcard && !was_wildcard)),
        }
    }

    fn change(
        &mut self,
        kind: Type,
        first: bool,
        subscribe: &[String],
        unsubscribe: &[String],
    ) -> Changed {
        let mut changed = Changed::default();
        if first && subscribe.is_empty() && kind.is_whole() {
            self.wildcard = true;
            changed.everything = true;
        }
        for name in subscribe {
            if name != WILDCARD {
                self.names.insert(name.clone());
                changed.asked.push(name.clone());
            } else if kind.is_whole() {
                changed.everything |= !self.wildcard;
                self.wildcard = true;
            }
        }
        for name in unsubscribe {
            if name == WILDCARD {
                self.wildcard = false;
            } else if self.names.remove(name) && self.wildcard {
                changed.uncovered.push(name.clone());
            }
        }
        changed
    }
}
