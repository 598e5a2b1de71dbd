//! The interlocks, asked about definitions as they are and as an attach would make them.

use super::{CALL, Desk};
use crate::domain_xml::{self, Details};
use crate::engine::Allotment;
use crate::interlock::{self, Facts, Known};
use crate::libvirt::{Definition, Listed};
use crate::model::{Allocation, Finding, Kind, Profile, Refusal, Severity};
use crate::wire;

impl Desk {
    /// Checks one domain, one definition that libvirt need not know, or everything.
    ///
    /// # Errors
    /// When there is no such domain, libvirt does not answer, or the XML is no domain's.
    pub fn check(&self, request: &wire::Check) -> Result<wire::Checked, Refusal> {
        let mut notes = Vec::new();
        let mut domains = self.definitions(&mut notes);
        let asked = match (&request.xml, &request.domain) {
            (Some(_), Some(_)) => {
                return Err(Refusal::new(
                    Kind::Usage,
                    "a check is of a domain or of a definition, not of both",
                ));
            }
            (Some(xml), None) => Some(read(xml)?),
            (None, Some(name)) => {
                let listed = self.find(name)?;
                Some(self.details(&listed)?)
            }
            (None, None) => None,
        };
        if let Some(asked) = &asked {
            domains.retain(|other| {
                other.name != asked.name && (other.uuid.is_none() || other.uuid != asked.uuid)
            });
            domains.insert(0, asked.clone());
        }
        let count = if asked.is_some() { 1 } else { domains.len() };
        let facts = self.facts(domains, &[]);
        let mut findings = interlock::check(&facts);
        if let Some(asked) = &asked {
            let place = format!("domain {}", domain_xml_name(asked));
            // A finding about two domains stands at the first, which is this one.
            findings.retain(|one| one.place == place || one.place.starts_with(&format!("{place}, ")));
        }
        let profiles = if asked.is_some() { 0 } else { facts.profiles.len() };
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(wire::Checked { findings, domains: number(count), profiles: number(profiles), notes })
    }

    /// Refuses hostdevs that would bring an error into the domain's definition; returns what else they would bring.
    pub(super) fn interlocks(&self, listed: &Listed, allotment: &Allotment) -> Result<Vec<String>, Refusal> {
        let Ok(before) = self.details(listed) else {
            // What cannot be read is refused where it is written.
            return Ok(Vec::new());
        };
        let mut after = before.clone();
        for hostdev in allotment.xml.iter().filter_map(|xml| domain_xml::hostdev_details(xml)) {
            let there = |one: &domain_xml::HostdevDetails| one.hostdev.source == hostdev.hostdev.source;
            if !after.hostdevs.iter().any(there) {
                after.hostdevs.push(hostdev);
            }
        }
        let before = interlock::check(&self.facts(vec![before], &[]));
        let brought = interlock::brought(&before, interlock::check(&self.facts(vec![after], &allotment.new)));
        match brought.iter().find(|finding| finding.severity == Severity::Error) {
            None => Ok(brought.iter().map(sentence).collect()),
            Some(error) => Err(Refusal::new(Kind::Conflict, sentence(error))
                .hint(format!("{} says so; vgpuctl check --rules lists all rules", error.source))),
        }
    }

    /// `planned` are promises that a dry run would make: the book does not know them.
    fn facts(&self, domains: Vec<Details>, planned: &[Allocation]) -> Facts {
        let book = self.engine.book();
        let planned: Vec<Allocation> =
            planned.iter().filter(|one| !book.allocations.contains_key(&one.id)).cloned().collect();
        let allocations: Vec<Allocation> = book.allocations.into_values().chain(planned).collect();
        let profiles: Vec<Profile> = book.profiles.into_values().collect();
        let snapshot = self.engine.newest();
        let known = Known {
            snapshot: snapshot.as_deref(),
            allocations: Some(&allocations),
            profiles: &profiles,
            libvirt: self.link.version(),
        };
        interlock::facts(known, domains)
    }

    /// Reads the definitions of all domains; what cannot be read becomes a note.
    fn definitions(&self, notes: &mut Vec<String>) -> Vec<Details> {
        let listed = match self.link.call("list domains", CALL, |host| host.list()) {
            Ok(listed) => listed,
            Err(error) => {
                notes.push(format!("domains were not looked at: {error}"));
                return Vec::new();
            }
        };
        let mut found = Vec::new();
        for one in listed {
            match self.details(&one) {
                Ok(details) => found.push(details),
                Err(refusal) => {
                    notes.push(format!("domain {} was not looked at: {refusal}", one.domain.name));
                }
            }
        }
        found
    }

    fn details(&self, listed: &Listed) -> Result<Details, Refusal> {
        let uuid = listed.domain.uuid;
        let definition = if listed.persistent { Definition::Inactive } else { Definition::Live };
        let xml = self.link.call("read a definition", CALL, move |host| host.xml(uuid, definition));
        read(&xml.map_err(|error| Refusal::from(&error))?)
    }
}

fn read(xml: &str) -> Result<Details, Refusal> {
    domain_xml::details(xml.as_bytes()).map_err(|error| Refusal::from_error(error.kind(), &error))
}

fn domain_xml_name(details: &Details) -> String {
    crate::model::one_line(&details.name, 60)
}

fn sentence(finding: &Finding) -> String {
    let Finding { severity, rule, place, sentence, .. } = finding;
    match severity {
        Severity::Error => format!("{place} would break rule {rule}: {sentence}"),
        Severity::Warning | Severity::Note => format!("{severity} ({rule}): {place}: {sentence}"),
    }
}
