//! Whether what the witness says is what must be so. Another program than vgpud's, and a dumber one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::steps::{Domain, Model, Profile};
use super::witness::Witness;

/// What can never be so, not even for a moment.
pub(crate) fn grave(witness: &Witness, model: &Model, pids: &BTreeMap<String, u64>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut holders: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for (pid, device) in &witness.holds {
        holders.entry(device).or_default().insert(*pid);
    }
    let twice = holders.iter().filter(|(_, pids)| pids.len() > 1);
    faults.extend(twice.map(|(device, pids)| format!("{device} is held by {pids:?}")));
    for (uuid, (_, profile)) in &model.foreign {
        let (parent, kind) = profile.mdev().expect("foreign ones are mdevs");
        let wanted = (parent.to_owned(), kind.to_owned());
        if witness.mdevs.get(uuid) != Some(&wanted) {
            faults.push(format!("foreign {uuid} is {:?}", witness.mdevs.get(uuid)));
        }
    }
    // Guests that ran before the step and run after it are the same processes.
    for name in model.running() {
        let (before, now) = (pids.get(name), witness.qemus.get(name));
        if before.is_some() && before != now {
            faults.push(format!("QEMU of {name} was {before:?} and is {now:?}"));
        }
    }
    faults
}

/// What must be so once all has settled.
pub(crate) fn faults(witness: &Witness, model: &Model) -> Vec<String> {
    let mut faults = Vec::new();
    host(witness, model, &mut faults);
    for (name, domain) in &model.domains {
        guest(witness, name, domain, &mut faults);
        promises(witness, name, domain, &mut faults);
    }
    public(witness, model, &mut faults);
    faults
}

fn differ<T: std::fmt::Debug + PartialEq>(what: &str, is: &T, wanted: &T, faults: &mut Vec<String>) {
    if is != wanted {
        faults.push(format!("{what}: {is:?}, wanted {wanted:?}"));
    }
}

/// The kernel has the slices of guests that run, the guaranteed ones and the foreign ones, and no more.
fn host(witness: &Witness, model: &Model, faults: &mut Vec<String>) {
    let running: BTreeSet<&str> = model.running().into_iter().collect();
    let is: BTreeSet<&str> = witness.qemus.keys().map(String::as_str).collect();
    differ("domains with a QEMU", &is, &running, faults);

    let guaranteed = witness.allocations.iter().filter(|one| is_guaranteed(one));
    let kept = guaranteed.filter_map(|one| one["device"]["mdev"].as_str()).map(str::to_owned);
    let ours = running.iter().flat_map(|name| witness.named(name)).filter(|device| is_mdev(device));
    let wanted: BTreeSet<String> = ours.chain(kept).chain(model.foreign.keys().cloned()).collect();
    let is: BTreeSet<String> = witness.mdevs.keys().cloned().collect();
    differ("mdevs", &is, &wanted, faults);

    // As the samples count: a leak shows here even when no device does.
    for (parent, places) in [("mtty", 24), ("mdpy", 4)] {
        let used = witness.mdevs.values().filter(|(at, _)| at == parent).count();
        let left = witness.left.iter().filter(|((at, _), _)| at == parent).map(|(_, left)| *left).max();
        let wanted = places - u64::try_from(used).expect("few");
        differ(&format!("left on {parent}"), &left, &Some(wanted), faults);
    }
    differ("VFs", &witness.vfs.len(), &model.vfs, faults);
    let astray = witness.vfs.iter().filter(|(_, driver)| *driver != "vfio-pci");
    faults.extend(astray.map(|(vf, driver)| format!("VF {vf} is on {driver}")));
}

fn is_mdev(device: &str) -> bool {
    device.len() == 36
}

fn is_guaranteed(allocation: &Value) -> bool {
    allocation["terms"]["mode"] == "guaranteed"
}

/// A QEMU holds what its definition names, and no process holds anything else of ours.
fn guest(witness: &Witness, name: &str, domain: &Domain, faults: &mut Vec<String>) {
    let wanted = if domain.runs() { witness.named(name) } else { BTreeSet::new() };
    differ(&format!("devices that {name} holds"), &witness.held(name), &wanted, faults);
}

/// The definition, the ledger and the model agree about a domain.
fn promises(witness: &Witness, name: &str, domain: &Domain, faults: &mut Vec<String>) {
    let mut is: Vec<String> = Vec::new();
    for (_, alias, device) in witness.names.iter().filter(|(of, ..)| of == name) {
        let id = alias.trim_start_matches("ua-vgpud-");
        let Some(known) = witness.allocation(id) else {
            faults.push(format!("{name} names {device} as {alias}, which the ledger does not know"));
            continue;
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let guaranteed = if is_guaranteed(known) { " guaranteed" } else { "" };
        is.push(format!("{}{guaranteed}", text(&known["profile"])));
        differ(&format!("domain of {id}"), &text(&known["domain"]["name"]), &name.to_owned(), faults);
        differ(&format!("state of {id}"), &text(&known["state"]), &"attached".to_owned(), faults);
        let listed = known["device"].as_object().and_then(|device| device.values().next());
        differ(&format!("device of {id}"), &text(listed.unwrap_or(&Value::Null)), device, faults);
        let status = match (domain.runs(), is_guaranteed(known)) {
            (true, _) => "in_use",
            (false, true) => "ready",
            (false, false) => "reserved",
        };
        differ(&format!("status of {id} of {name}"), &text(&known["status"]), &status.to_owned(), faults);
        let pids: Vec<u64> =
            known["holders"].as_array().into_iter().flatten().filter_map(|one| one["pid"].as_u64()).collect();
        let wanted: Vec<u64> =
            witness.qemus.get(name).filter(|_| domain.runs()).copied().into_iter().collect();
        differ(&format!("listed holders of {id}"), &pids, &wanted, faults);
    }
    let mut wanted: Vec<String> = domain
        .slices
        .iter()
        .map(|slice| {
            let guaranteed = if slice.guaranteed { " guaranteed" } else { "" };
            format!("{}{guaranteed}", slice.profile.name())
        })
        .collect();
    is.sort();
    wanted.sort();
    differ(&format!("slices of {name}"), &is, &wanted, faults);
}

/// What the service tells everybody is what is there.
fn public(witness: &Witness, model: &Model, faults: &mut Vec<String>) {
    let promised: usize = model.domains.values().map(|domain| domain.slices.len()).sum();
    differ("allocations in the list", &witness.allocations.len(), &promised, faults);
    let named: BTreeSet<String> = witness.names.iter().map(|(.., device)| device.clone()).collect();
    differ("/run/vgpud/owned", &witness.owned, &named, faults);

    let slices = witness.gpus["slices"].as_array().cloned().unwrap_or_default();
    let mut listed = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice["device"]["mdev"].is_string()) {
        let text = |key: &str| slice[key].as_str().unwrap_or_default().to_owned();
        let uuid = slice["device"]["mdev"].as_str().unwrap_or_default().to_owned();
        listed.insert(uuid, (text("parent"), text("mdev_type"), text("owner")));
    }
    let owner = |uuid: &String| if model.foreign.contains_key(uuid) { "foreign" } else { "allocation" };
    let wanted = witness
        .mdevs
        .iter()
        .map(|(uuid, (parent, kind))| (uuid.clone(), (parent.clone(), kind.clone(), owner(uuid).to_owned())));
    differ("slices in the list of GPUs", &listed, &wanted.collect(), faults);
    for ((parent, kind), left) in &witness.left {
        let told = available(&witness.gpus, parent, kind);
        differ(&format!("{kind} left, as told"), &told, &Some(*left), faults);
    }
    for key in ["unfinished", "warnings"] {
        differ(key, &witness.status[key], &Value::Array(Vec::new()), faults);
    }
    differ("libvirt", &witness.status["libvirt"], &Value::from("connected"), faults);
}

fn available(gpus: &Value, parent: &str, kind: &str) -> Option<u64> {
    let lists = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let parents = lists(gpus, "gpus").into_iter().flat_map(|gpu| lists(&gpu, "parents"));
    let types = parents.filter(|one| one["name"] == parent).flat_map(|one| lists(&one, "types"));
    types.filter(|one| one["id"] == kind).find_map(|one| one["available"].as_u64())
}

#[cfg(test)]
mod tests {
    use super::super::steps::{Fault, Maker, Slice, Step};
    use super::*;

    const FOREIGN: &str = "ffffffff-0000-4000-8000-000000000000";
    const OURS: &str = "c0ffee00-0000-4000-8000-00000000000a";

    /// `d0` runs with one mtty; somebody else's mdev is beside it.
    fn agreed() -> (Witness, Model) {
        let mut model = Model::new(0);
        let slice = Slice { profile: Profile::Small, guaranteed: false };
        model.advance(&Step::Attach("d0", slice));
        model.advance(&Step::Start("d0", Fault::None));
        model.advance(&Step::Make(Maker::Hand, Profile::Small, FOREIGN.to_owned()));
        let slices = |uuid: &str, owner: &str| {
            format!(
                r#"{{"device":{{"mdev":"{uuid}"}},"parent":"mtty","mdev_type":"mtty-1","owner":"{owner}"}}"#
            )
        };
        let text = format!(
            "mdev {OURS} mtty mtty-1\nmdev {FOREIGN} mtty mtty-1\nleft mtty mtty-1 22\nleft mdpy mdpy-hd 4\n\
             qemu 7 d0\nholds 7 {OURS}\nnames d0 ua-vgpud-1 {OURS}\nowned {OURS}\n\
             json allocations {{\"allocations\":[{{\"id\":\"1\",\"domain\":{{\"name\":\"d0\"}},\"profile\":\"small\",\
             \"device\":{{\"mdev\":\"{OURS}\"}},\"state\":\"attached\",\"status\":\"in_use\",\"holders\":[{{\"pid\":7}}]}}]}}\n\
             json gpus {{\"gpus\":[{{\"parents\":[{{\"name\":\"mtty\",\"types\":[{{\"id\":\"mtty-1\",\"available\":22}}]}},\
             {{\"name\":\"mdpy\",\"types\":[{{\"id\":\"mdpy-hd\",\"available\":4}}]}}]}}],\"slices\":[{},{}]}}\n\
             json status {{\"unfinished\":[],\"warnings\":[],\"libvirt\":\"connected\"}}\n",
            slices(OURS, "allocation"),
            slices(FOREIGN, "foreign")
        );
        (Witness::parse(&text), model)
    }

    #[test]
    fn agreement_has_no_fault() {
        let (witness, model) = agreed();
        assert_eq!(faults(&witness, &model), [""; 0]);
        assert_eq!(grave(&witness, &model, &BTreeMap::from([("d0".to_owned(), 7)])), [""; 0]);
    }

    #[test]
    fn leaks_losses_double_use_and_disagreement_are_seen() {
        let (good, model) = agreed();
        let seen = |change: &dyn Fn(&mut Witness), word: &str| {
            let mut bad = good.clone();
            change(&mut bad);
            let mut all = faults(&bad, &model);
            all.extend(grave(&bad, &model, &BTreeMap::from([("d0".to_owned(), 7)])));
            assert!(all.iter().any(|fault| fault.contains(word)), "{word}: {all:?}");
        };
        let leak = ("mtty".to_owned(), "mtty-1".to_owned());
        seen(
            &|bad| {
                bad.mdevs.insert("leak".to_owned(), leak.clone());
            },
            "mdevs:",
        );
        seen(
            &|bad| {
                bad.mdevs.remove(OURS);
            },
            "mdevs:",
        );
        seen(
            &|bad| {
                bad.mdevs.remove(FOREIGN);
            },
            "foreign ffffffff",
        );
        seen(
            &|bad| {
                bad.holds.insert((8, OURS.to_owned()));
            },
            "is held by {7, 8}",
        );
        seen(&|bad| bad.holds.clear(), "devices that d0 holds");
        seen(
            &|bad| {
                bad.qemus.insert("d0".to_owned(), 9);
            },
            "QEMU of d0 was",
        );
        seen(
            &|bad| {
                bad.left.insert(leak.clone(), 21);
            },
            "left on mtty",
        );
        seen(&|bad| bad.allocations.clear(), "which the ledger does not know");
        seen(&|bad| bad.allocations[0]["status"] = Value::from("reserved"), "status of 1");
        seen(&|bad| bad.owned.clear(), "/run/vgpud/owned");
        seen(&|bad| bad.status["unfinished"] = serde_json::json!(["x"]), "unfinished");
        seen(
            &|bad| {
                bad.vfs.insert("v".to_owned(), "igbvf".to_owned());
            },
            "VF v is on igbvf",
        );
    }
}
