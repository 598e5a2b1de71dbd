//! What mdevctl is told to make: `/etc/mdevctl.d/PARENT/UUID`, written by `mdevctl define` and by libvirt's
//! `nodedev-define`, which calls it. An mdev without such a file tells nothing of its maker.

use std::collections::BTreeMap;

use crate::model::{DeviceName, MdevUuid};
use crate::sysfs::Sysfs;

const DIRECTORY: &str = "etc/mdevctl.d";

/// One definition of mdevctl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MdevDefinition {
    /// On which parent.
    pub parent: DeviceName,
    /// Whether mdevctl makes it whenever the parent appears.
    pub auto: bool,
}

/// mdevctl's definitions by UUID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definitions(BTreeMap<MdevUuid, Vec<MdevDefinition>>);

impl Definitions {
    /// Reads them. What is there and is no definition is passed over: it is not ours to judge.
    #[must_use]
    pub fn read(sysfs: &Sysfs) -> Self {
        let mut found: BTreeMap<MdevUuid, Vec<MdevDefinition>> = BTreeMap::new();
        for name in sysfs.list_optional(DIRECTORY).unwrap_or_default() {
            let Ok(parent) = name.parse::<DeviceName>() else { continue };
            for file in sysfs.list(&format!("{DIRECTORY}/{name}")).unwrap_or_default() {
                let Ok(uuid) = file.parse::<MdevUuid>() else { continue };
                let auto =
                    sysfs.read(&format!("{DIRECTORY}/{name}/{file}")).is_ok_and(|text| starts_itself(&text));
                found.entry(uuid).or_default().push(MdevDefinition { parent: parent.clone(), auto });
            }
        }
        Self(found)
    }

    /// Returns the definitions of an mdev; mdevctl takes one for each parent.
    #[must_use]
    pub fn of(&self, uuid: MdevUuid) -> &[MdevDefinition] {
        self.0.get(&uuid).map_or(&[], Vec::as_slice)
    }
}

fn starts_itself(text: &str) -> bool {
    let parsed: Option<serde_json::Value> = serde_json::from_str(text).ok();
    parsed.is_some_and(|definition| definition["start"] == "auto")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_found_and_odd_files_passed_over() {
        let dir = tempfile::tempdir().expect("directory");
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
            #[expect(clippy::disallowed_methods, reason = "test fixture")]
            std::fs::write(path, text).expect("fixture");
        };
        let (auto, manual) = ("8a1c0e3e-0000-4000-8000-000000000001", "8a1c0e3e-0000-4000-8000-000000000002");
        assert_eq!(Definitions::read(&Sysfs::new(dir.path())), Definitions::default());
        put(&format!("etc/mdevctl.d/mtty/{auto}"), r#"{"mdev_type":"mtty-1","start":"auto","attrs":[]}"#);
        put(&format!("etc/mdevctl.d/mtty/{manual}"), r#"{"mdev_type":"mtty-1","start":"manual"}"#);
        put(&format!("etc/mdevctl.d/0000:41:00.4/{manual}"), "no json");
        put("etc/mdevctl.d/mtty/README", "hello");
        put("etc/mdevctl.d/scripts.d/callouts/x.sh", "#!/bin/sh");
        let found = Definitions::read(&Sysfs::new(dir.path()));
        let of = |uuid: &str| found.of(uuid.parse().expect("uuid")).to_vec();
        let definition = |parent: &str, auto| MdevDefinition { parent: parent.parse().expect("name"), auto };
        assert_eq!(of(auto), [definition("mtty", true)]);
        assert_eq!(of(manual), [definition("0000:41:00.4", false), definition("mtty", false)]);
        assert!(of("8a1c0e3e-0000-4000-8000-000000000003").is_empty());
    }
}
