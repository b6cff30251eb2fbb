//! Two servers that know each other through signed names, and whatever tests make of these names.

use std::fmt::Write as _;

use testbed::peers::{Restante, RestanteConfig};
use testbed::samples::awkward;
use testbed::signed::{SignedTree, Signing, Zone};
use testbed::{Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

/// Two servers whose names are in a signed tree.
pub(crate) struct World {
    pub(crate) a: Restante,
    pub(crate) b: Restante,
    pub(crate) tree: SignedTree,
    pub(crate) sandbox: Sandbox,
}

impl World {
    /// `change` says what is different from two signed domains whose zones are in order.
    pub(crate) fn new(change: impl FnOnce(&Sandbox, &mut SignedTree, &mut Restante)) -> Self {
        let sandbox = Sandbox::new().unwrap();
        let mut tree = SignedTree::new(&sandbox).unwrap();
        let config = |name: &str, domain: &str| {
            RestanteConfig::new(PROGRAM, name, &[domain])
                .users(&["alice", "bob"])
                .with("resolver", "servers", &format!("[\"{}\"]", tree.resolver()))
                .with("resolver", "dnssec", "\"validate\"")
                .with("resolver", "trust_anchor_file", &format!("\"{}\"", tree.anchors().display()))
                .with("transfer", "policy", "\"require\"")
        };
        let mut a = Restante::prepare(&sandbox, config("mx.a.example", "a.example")).unwrap();
        let mut b = Restante::prepare(&sandbox, config("mx.b.example", "b.example")).unwrap();
        tree.set(Zone::new("a.example", Signing::Nsec));
        tree.set(Zone::new("b.example", Signing::Nsec3));
        change(&sandbox, &mut tree, &mut a);
        tree.serve(&sandbox).unwrap();
        a.run().unwrap();
        b.run().unwrap();
        Self { a, b, tree, sandbox }
    }

    /// Other zones from now on; the receiver, which remembers answers for a minute at least, begins anew.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut SignedTree)) {
        change(&mut self.tree);
        self.tree.serve(&self.sandbox).unwrap();
        self.b.stop().unwrap();
        self.b.run().unwrap();
    }

    /// From alice at a.example to bob at b.example; the queue id.
    pub(crate) fn send(&self) -> String {
        self.a.send("alice@a.example", &["bob@b.example"], &awkward("signed names")).unwrap()
    }

    /// It is delivered, and this is how surely the receiver knew the sender's keys.
    pub(crate) fn assert_delivered(&self, id: &str, assurance: &str) {
        self.a.wait_for_state(id, "delivered", wait::LONG).unwrap();
        let copies = self.b.maildir("bob@b.example").messages();
        let last = String::from_utf8_lossy(copies.last().unwrap()).into_owned();
        assert!(last.contains(&format!("policy.assurance={assurance}")), "{last}");
    }

    /// The receiver answers offers of this message with these words.
    pub(crate) fn wait_for_answer(&self, id: &str, words: &str) {
        let mut last = String::new();
        let found = wait::until(words, wait::LONG, || {
            last = self.a.trace(id).ok()?.to_string();
            last.contains(words).then_some(())
        });
        assert!(found.is_ok(), "no {words}: {last}\n{}\n{}", self.a.log(), self.b.log());
    }

    /// How many messages bob has.
    pub(crate) fn copies(&self) -> usize {
        self.b.maildir("bob@b.example").messages().len()
    }

    /// With these records beside the usual ones; nobody remembers what was before.
    pub(crate) fn publish(&mut self, in_a: &str, in_b: &str) {
        self.a.stop().unwrap();
        let (in_a, in_b) = (in_a.to_owned(), in_b.to_owned());
        self.change(|tree| {
            tree.set(Zone::new("a.example", Signing::Nsec).with_records(&in_a));
            tree.set(Zone::new("b.example", Signing::Nsec3).with_records(&in_b));
        });
        self.a.run().unwrap();
    }
}

/// The TLSA records that a server prints for itself, as lines of a zone.
pub(crate) fn printed_tlsa(server: &Restante) -> String {
    let printed = server.json(&["dns", "print"], b"").unwrap();
    let records = printed.as_array().unwrap().iter().filter(|record| record["type"] == "TLSA");
    records.fold(String::new(), |mut lines, record| {
        let (name, text) = (record["name"].as_str().unwrap(), record["text"].as_str().unwrap());
        writeln!(lines, "{name}. TLSA {text}").unwrap();
        lines
    })
}
