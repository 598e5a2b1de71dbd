//! What the lab is like, read by a program of its own from sysfs, `/proc`, libvirt's files and the public answers
//! of the service.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::host::Lab;

const READ: &str = include_str!("witness.pl");

/// The facts of one reading.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness {
    /// UUID to parent and type, by the kernel's links.
    pub(crate) mdevs: BTreeMap<String, (String, String)>,
    /// Parent and type to what the kernel says is left.
    pub(crate) left: BTreeMap<(String, String), u64>,
    /// VFs of the first igb, with their driver.
    pub(crate) vfs: BTreeMap<String, String>,
    /// Name of the domain to QEMU's pid, by the process list.
    pub(crate) qemus: BTreeMap<String, u64>,
    /// Pid and device, by the nodes that are open.
    pub(crate) holds: BTreeSet<(u64, String)>,
    /// Domain, alias and device, by the definitions on libvirt's disk.
    pub(crate) names: Vec<(String, String, String)>,
    /// The list that the hook reads.
    pub(crate) owned: BTreeSet<String>,
    /// Answers of the service.
    pub(crate) allocations: Vec<Value>,
    pub(crate) gpus: Value,
    pub(crate) status: Value,
}

impl Witness {
    /// Reads everything.
    pub(crate) fn read(lab: &Lab) -> Self {
        let text = lab.ok(&format!("perl - 2>/dev/null <<'PERL'\n{READ}\nPERL"));
        Self::parse(&text)
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut witness = Self::default();
        for line in text.lines() {
            witness.take_in(line);
        }
        witness
    }

    fn take_in(&mut self, line: &str) {
        let own = |word: &str| word.to_owned();
        let number = |word: &str| word.parse().expect("a number");
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["mdev", uuid, parent, kind] => drop(self.mdevs.insert(own(uuid), (own(parent), own(kind)))),
            ["left", parent, kind, count] => drop(self.left.insert((own(parent), own(kind)), number(count))),
            ["vf", address, driver] => drop(self.vfs.insert(own(address), own(driver))),
            ["qemu", pid, name] => drop(self.qemus.insert(own(name), number(pid))),
            ["holds", pid, device] => drop(self.holds.insert((number(pid), own(device)))),
            ["names", domain, alias, device] => self.names.push((own(domain), own(alias), own(device))),
            ["owned", device] => drop(self.owned.insert(own(device))),
            ["json", what, ..] => {
                let text = line.splitn(3, ' ').nth(2).unwrap_or_default();
                self.answer(what, serde_json::from_str(text).unwrap_or(Value::Null));
            }
            _ => panic!("the witness says {line:?}"),
        }
    }

    fn answer(&mut self, what: &str, answer: Value) {
        match what {
            "allocations" => self.allocations = answer["allocations"].as_array().cloned().unwrap_or_default(),
            "gpus" => self.gpus = answer,
            _ => self.status = answer,
        }
    }

    /// The devices that the definition of a domain names.
    pub(crate) fn named(&self, domain: &str) -> BTreeSet<String> {
        let of = self.names.iter().filter(|(name, ..)| name == domain);
        of.map(|(_, _, device)| device.clone()).collect()
    }

    /// The devices that the QEMU of a domain holds.
    pub(crate) fn held(&self, domain: &str) -> BTreeSet<String> {
        let pid = self.qemus.get(domain);
        self.holds
            .iter()
            .filter(|(holder, _)| Some(holder) == pid)
            .map(|(_, device)| device.clone())
            .collect()
    }

    /// What the service says of an allocation, by its id.
    pub(crate) fn allocation(&self, id: &str) -> Option<&Value> {
        self.allocations.iter().find(|one| one["id"] == id)
    }
}
