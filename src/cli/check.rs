//! `vgpuctl check`: what cannot work together, before a guest fails on it.

use std::io::Read as _;

use clap::Args;

use crate::cli::report::{Format, Report};
use crate::cli::table::{Table, printable};
use crate::client::{Client, ClientError};
use crate::config::{Config, Paths};
use crate::domain_xml::{self, MAX_XML};
use crate::interlock::{self, Known, RULES};
use crate::inventory::{ScanOptions, scan};
use crate::model::{Finding, Severity};
use crate::sysfs::Sysfs;
use crate::wire::{Check as Request, Checked, Kind, Refusal};

/// Check definitions, profiles and GPUs against what cannot work together
///
/// Without an argument: all profiles, GPUs and domains that the service knows. With a domain, or with a file that
/// holds a domain's XML (it has a slash or ends in .xml; - is standard input): that definition alone, beside the
/// others. Each finding names its rule and the document that says so. A rule whose facts are not known says
/// nothing.
///
/// Exit code 1 when an error was found; warnings and notes leave it 0.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// A domain, or a file with a domain's XML
    #[arg(value_name = "DOMAIN|FILE")]
    what: Option<String>,
    /// List the rules
    #[arg(long, conflicts_with_all = ["what", "direct"])]
    rules: bool,
    /// Check a file without the service: promises, profiles and libvirt's version are then unknown
    #[arg(long, requires = "what")]
    direct: bool,
}

impl Check {
    pub(super) fn run(self, client: &Client, paths: &Paths, format: Format) -> Result<Report, Refusal> {
        if self.rules {
            return rules(format);
        }
        let request = match self.what {
            None => Request::default(),
            Some(file) if is_file(&file) => Request { xml: Some(read(&file)?), domain: None },
            Some(domain) => Request { domain: Some(domain), xml: None },
        };
        let answer: Checked = match (self.direct, &request.xml) {
            (false, _) => client.post("/v1/check", &request).map_err(ClientError::into_refusal)?,
            (true, Some(xml)) => direct(xml, paths)?,
            (true, None) => {
                let text = "--direct checks a file: only the service asks libvirt for a domain";
                return Err(Refusal::new(Kind::Usage, text));
            }
        };
        let bad = answer.findings.iter().any(|finding| finding.severity == Severity::Error);
        let report = Report::new(format, &answer, render)?.notes(format, &answer.notes);
        Ok(Report { found_errors: bad, ..report })
    }
}

fn is_file(what: &str) -> bool {
    what == "-" || what.contains('/') || what.ends_with(".xml")
}

/// Reads a file, bounded.
fn read(file: &str) -> Result<String, Refusal> {
    let cannot = |error: std::io::Error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Usage };
        Refusal::new(kind, format!("cannot read {file}: {error}"))
    };
    let most = u64::try_from(MAX_XML).unwrap_or(u64::MAX);
    let mut text = String::new();
    let source: Box<dyn std::io::Read> = match file {
        "-" => Box::new(std::io::stdin()),
        file => Box::new(std::fs::File::open(file).map_err(cannot)?),
    };
    source.take(most + 1).read_to_string(&mut text).map_err(cannot)?;
    Ok(text)
}

fn direct(xml: &str, paths: &Paths) -> Result<Checked, Refusal> {
    let config = Config::load(paths).map_err(|error| Refusal::from_error(Kind::Usage, &error))?;
    let snapshot = scan(&Sysfs::new(paths.root()), &ScanOptions { include: config.devices.include });
    let details =
        domain_xml::details(xml.as_bytes()).map_err(|error| Refusal::from_error(error.kind(), &error))?;
    let known = Known { snapshot: Some(&snapshot), ..Known::default() };
    let findings = interlock::check(&interlock::facts(known, vec![details]));
    Ok(Checked { findings, domains: 1, profiles: 0, notes: Vec::new() })
}

fn render(answer: &Checked) -> String {
    if answer.findings.is_empty() {
        return format!("nothing wrong: {} domains and {} profiles\n", answer.domains, answer.profiles);
    }
    answer.findings.iter().map(finding).collect()
}

fn finding(finding: &Finding) -> String {
    let Finding { severity, rule, place, sentence, source } = finding;
    format!(
        "{severity}: {}: {}\n  rule {rule}, source: {}\n",
        printable(place),
        printable(sentence),
        printable(source)
    )
}

fn rules(format: Format) -> Result<Report, Refusal> {
    let rows: Vec<serde_json::Value> = RULES
        .iter()
        .map(|rule| {
            serde_json::json!({"rule": rule.id, "severity": rule.severity, "forbids": rule.forbids,
                "why": rule.why, "source": rule.source})
        })
        .collect();
    Report::new(format, &serde_json::json!({ "rules": rows }), |_| {
        let mut table = Table::new(0, &["RULE", "SEVERITY", "FORBIDS"]);
        for rule in RULES {
            table.row([rule.id.to_owned(), rule.severity.to_string(), rule.forbids.to_owned()]);
        }
        table.render()
    })
}
